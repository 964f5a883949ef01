// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
)

// View implements tea.Model.
func (m topModel) View() tea.View {
	v := tea.NewView(m.picture())
	v.AltScreen = true
	return v
}

// picture returns the text of the screen, cut to the size of the terminal.
func (m topModel) picture() string {
	if m.height == 0 {
		return "" // the size of the terminal is not known yet
	}
	lines := m.head()
	sections := m.sections()
	for i, s := range sections {
		left := m.height - len(lines)
		share := max(left/(len(sections)-i), minSection) // the last section gets all remaining lines
		lines = append(lines, s.fit(min(share, left))...)
	}
	lines = lines[:min(len(lines), m.height)]
	for i, line := range lines {
		if runes := []rune(line); len(runes) > m.width {
			lines[i] = string(runes[:m.width])
		}
	}
	return strings.Join(lines, "\n")
}

func (m topModel) head() []string {
	i := m.now.info
	offload := "off"
	if i.Offload {
		offload = "on"
	}
	more := ""
	if m.now.moreFlows {
		more = "+"
	}
	lines := []string{fmt.Sprintf("dpservice %s  up %s  offload %s  flows %d%s  %s", i.Version, seconds(i.UptimeSeconds),
		offload,
		len(m.now.flows), more, m.now.at.Format("15:04:05"))}
	switch {
	case m.err != nil:
		text, _, _ := strings.Cut(m.err.Error(), "\n")
		lines = append(lines, "no news: "+text)
	case m.held:
		lines = append(lines, "held; space goes on")
	default:
		sort := "packets"
		if m.byBits {
			sort = "bits"
		}
		lines = append(lines, "q quits, s sorts flows (by "+sort+"), space holds")
	}
	return lines
}

// minSection is the minimum number of lines of a section, so that at least one row is visible. Later sections may then
// get no lines.
const minSection = 4

// section is a table of the screen.
type section struct {
	head  string
	rows  [][]any
	total int // number of all rows; rows holds only as many as fit on the screen
}

// sectionOf returns a section with one row per element. It formats only the first most elements.
func sectionOf[T any](head string, all []T, most int, row func(T) []any) section {
	return section{head, each(all[:min(len(all), most)], row), len(all)}
}

func (m topModel) sections() []section {
	all := []section{
		sectionOf("PORT ROLE LINK RX-PACKETS/S RX-BITS/S TX-PACKETS/S TX-BITS/S LOST/S", m.rates.ports, m.height, portRow),
		sectionOf("INTERFACE DEVICE VNI FROM-PACKETS/S FROM-BITS/S TO-PACKETS/S TO-BITS/S", m.rates.interfaces, m.height,
			interfaceRow),
	}
	if len(m.rates.drops) > 0 {
		all = append(all, sectionOf("INTERFACE PORT DROPPED-FOR PACKETS/S PACKETS", m.rates.drops, m.height, dropRow))
	}
	if len(m.rates.captures) > 0 {
		all = append(all, sectionOf("CAPTURE INTERFACE PORT COPIES/S BITS/S COPIES", m.rates.captures, m.height, captureRow))
	}
	return append(all, sectionOf("FLOW VNI PROTO SOURCE DESTINATION HW PACKETS/S BITS/S", m.sortedFlows(), m.height,
		flowRow))
}

func portRow(p portRates) []any {
	role := fmt.Sprintf("%s%d", p.port.Role, p.port.Index)
	return []any{p.port.Name, role, p.port.Link, si(p.rx.packets), si(p.rx.bits), si(p.tx.packets), si(p.tx.bits),
		si(p.dropped)}
}

func interfaceRow(i interfaceRates) []any {
	return []any{i.ID, i.Device, i.VNI, si(i.from.packets), si(i.from.bits), si(i.to.packets), si(i.to.bits)}
}

func dropRow(d dropRate) []any {
	return []any{cmp.Or(d.Interface, "-"), d.Port, d.Reason, si(d.packets), d.Packets}
}

func captureRow(c captureRate) []any {
	return []any{c.session, pointName(c.point), c.point.Port, si(c.packets), si(c.bits), c.point.Packets}
}

func flowRow(f flowRate) []any {
	return []any{
		f.Interface, f.VNI, flowProto(f.Flow), endpoint(f.Flow, f.Src, f.SrcPort), endpoint(f.Flow, f.Dst, f.DstPort),
		yesNo(f.Offloaded), si(f.packets), si(f.bits),
	}
}

func (m topModel) sortedFlows() []flowRate {
	if !m.byBits {
		return m.rates.flows
	}
	flows := slices.Clone(m.rates.flows)
	slices.SortStableFunc(flows, func(a, b flowRate) int { return cmp.Compare(b.bits, a.bits) })
	return flows
}

// fit returns an empty line, the head and as many rows as fit. If not all of them fit, the last line says how many are
// missing.
func (s section) fit(room int) []string {
	const above = 2
	if room <= above {
		return nil
	}
	rows, left := s.rows, ""
	if s.total > room-above {
		rows = rows[:min(len(rows), room-above-1)]
		left = fmt.Sprintf("... and %d more", s.total-len(rows))
	}
	var text bytes.Buffer
	table(&text, s.head, rows)
	lines := append([]string{""}, strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")...)
	if left != "" {
		lines = append(lines, left)
	}
	return lines
}

// si formats a number with up to three digits and an SI prefix.
func si(v float64) string {
	if v < 0.05 {
		return "0"
	}
	prefixes := []string{"", "k", "M", "G", "T"}
	i := 0
	for ; v >= 999.5 && i < len(prefixes)-1; i++ {
		v /= 1000
	}
	if v < 99.95 && (i > 0 || v < 9.95) {
		return fmt.Sprintf("%.1f%s", v, prefixes[i])
	}
	return fmt.Sprintf("%.0f%s", v, prefixes[i])
}
