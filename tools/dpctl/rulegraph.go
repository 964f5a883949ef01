// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dpservice/dpservice/nic/nicgroup"
	"dpservice/rpc/api"
)

func (a *app) ruleGraph() *cobra.Command {
	var p api.RuleListParams
	var fold int
	var svg bool
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Draw the groups of rules, and the ways of packets through them",
		Long: `Draw the groups of rules and the ways of packets through them, in DOT, or in SVG with Graphviz' dot. A packet enters the
group DEFAULT and goes where the first rule that matches sends it: along a solid line the packet itself, along a dashed one
a copy of it. What no rule of a group matches goes to the software, through ingress rules where there are some. A group's
rules of one kind that lead to the same place are drawn as one if they are more than --fold.`,
		Example: `  dpctl rule graph --port=net_eswitch0_representor_vf0 --svg > rules.svg
  dpctl rule graph | dot -Tpng -o rules.png`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if fold < 0 {
				return errors.New("--fold must not be negative")
			}
			v := view[api.RuleListResult]{
				table: func(w io.Writer, r api.RuleListResult) { _, _ = io.WriteString(w, drawRules(r.Rules, fold)) },
				names: ruleView.names,
			}
			get := command(a, api.MethodRuleList, func([]string) (api.RuleListParams, error) { return p, nil }, v)
			return a.maybeSVG(cmd, args, svg, get)
		},
	}
	cmd.Flags().StringVar(&p.Port, "port", "", "only the rules of this port, by its ethdev name")
	cmd.Flags().IntVar(&fold, "fold", 8, "draw more than so many rules of a kind as one; 0 draws each")
	cmd.Flags().BoolVar(&svg, "svg", false, "draw in SVG, with Graphviz' dot")
	complete(cmd, "port", a.portNames)
	return cmd
}

// maybeSVG runs a command that writes DOT. If SVG is requested, it converts the output.
func (a *app) maybeSVG(cmd *cobra.Command, args []string, svg bool,
	writeDOT func(*cobra.Command, []string) error) error {
	if !svg {
		return writeDOT(cmd, args)
	}
	if a.output != "table" {
		return errors.New("--svg does not go with -o")
	}
	var dot bytes.Buffer
	out := cmd.OutOrStdout()
	cmd.SetOut(&dot)
	defer cmd.SetOut(out)
	if err := writeDOT(cmd, args); err != nil {
		return err
	}
	return renderSVG(cmd.Context(), &dot, out)
}

// renderSVG runs Graphviz.
func renderSVG(ctx context.Context, dot io.Reader, w io.Writer) error {
	draw := exec.CommandContext(ctx, "dot", "-Tsvg")
	var stderr bytes.Buffer
	draw.Stdin, draw.Stdout, draw.Stderr = dot, w, &stderr
	err := draw.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return failure{errors.New("--svg needs Graphviz' dot: install the package graphviz, or take DOT without --svg")}
	case err != nil:
		return failure{fmt.Errorf("dot: %w: %s", err, strings.TrimSpace(stderr.String()))}
	}
	return nil
}

// ruleBox is a box in the drawing: one group of rules of one port, or of all ports.
type ruleBox struct {
	port   uint16 // 0 if the rules are for all ports
	domain string
	group  uint32
}

// boxOf returns the box of a rule, or of where a rule on that port jumps to.
func boxOf(port uint16, domain string, group uint32) ruleBox {
	b := ruleBox{port, domain, group}
	if b.ofAllPorts() {
		b.port = 0
	}
	return b
}

func (b ruleBox) ofAllPorts() bool {
	return b.domain == "transfer" && nicgroup.Group(b.group).OfAllPorts()
}

func (b ruleBox) id() string {
	if b.ofAllPorts() {
		return fmt.Sprintf("all%d", b.group)
	}
	return fmt.Sprintf("p%d_%s%d", b.port, b.domain, b.group)
}

// title returns the name that dpservice gives to the group.
func (b ruleBox) title() string {
	if name := nicgroup.Group(b.group).Name(); b.domain == "transfer" && name != "" {
		return fmt.Sprintf("%s (group %d)", name, b.group)
	}
	return fmt.Sprintf("%s group %d", b.domain, b.group)
}

// ruleRow is a line in a box: one rule, or several folded rules.
type ruleRow struct {
	priority               uint32
	name, pattern, actions string
	hits                   *uint64
	edges                  []edge
}

// edge is where a packet, or a copy of it, goes next.
type edge struct {
	to   string // the ID of a node
	copy bool
}

// ruleDrawing is the content of the drawing: boxes with their rows, in order.
type ruleDrawing struct {
	names map[uint16]string // names of ports
	boxes []ruleBox
	rows  map[ruleBox][]ruleRow
}

// drawRules draws rules in DOT. The rules are in the order of rule.list.
func drawRules(rules []api.Rule, fold int) string {
	d := &ruleDrawing{names: map[uint16]string{}, rows: map[ruleBox][]ruleRow{}}
	for _, r := range rules {
		d.names[r.PortID] = r.Port
		box := boxOf(r.PortID, r.Domain, r.Group)
		d.add(box)
		d.rows[box] = append(d.rows[box], d.row(r))
	}
	for box := range d.rows {
		d.rows[box] = foldRows(d.rows[box], fold)
	}
	slices.SortFunc(d.boxes, func(a, b ruleBox) int {
		if a.ofAllPorts() != b.ofAllPorts() {
			return map[bool]int{true: 1, false: -1}[a.ofAllPorts()]
		}
		return cmp.Or(cmp.Compare(a.port, b.port), -cmp.Compare(a.domain, b.domain), cmp.Compare(a.group, b.group))
	})
	return d.dot()
}

func (d *ruleDrawing) add(b ruleBox) {
	if !slices.Contains(d.boxes, b) {
		d.boxes = append(d.boxes, b)
	}
}

// Patterns for the actions that say where a packet goes.
var (
	headerData = regexp.MustCompile(`(raw_encap|raw_decap) \{[^{}]*\}`)
	sampled    = regexp.MustCompile(`sample [^{}]*\{([^{}]*)\}`)
	destined   = regexp.MustCompile(`jump group (\d+)|represented_port ethdev_port_id (\d+)|port_id id (\d+)|(queue) index|(drop)`)
)

// row returns the line of one rule. It adds boxes for the groups that the rule jumps to.
func (d *ruleDrawing) row(r api.Rule) ruleRow {
	actions := headerData.ReplaceAllString(r.Actions, "$1")
	row := ruleRow{priority: r.Priority, name: r.Name, pattern: pattern(r.Pattern), actions: words(actions), hits: r.Hits}
	for _, s := range sampled.FindAllStringSubmatch(actions, -1) {
		row.edges = append(row.edges, d.edges(r, s[1], true)...)
	}
	row.edges = append(row.edges, d.edges(r, sampled.ReplaceAllString(actions, ""), false)...)
	return row
}

func (d *ruleDrawing) edges(r api.Rule, actions string, isCopy bool) []edge {
	var edges []edge
	for _, m := range destined.FindAllStringSubmatch(actions, -1) {
		to := "drop"
		switch {
		case m[1] != "":
			group, _ := strconv.ParseUint(m[1], 10, 32) // only digits; a number out of range is no group
			box := boxOf(r.PortID, r.Domain, uint32(group))
			d.add(box)
			to = box.id()
		case m[2] != "" || m[3] != "":
			to = "out" + m[2] + m[3]
		case m[4] != "":
			to = software(r.PortID)
		}
		edges = append(edges, edge{to, isCopy})
	}
	return edges
}

func software(port uint16) string { return fmt.Sprintf("sw%d", port) }

// pattern removes the port from a pattern, since the drawing shows it anyway.
func pattern(text string) string {
	items := strings.Split(text, " / ")
	if name, _, _ := strings.Cut(items[0], " "); name == "represented_port" || name == "port_id" {
		items = items[1:]
	}
	return words(strings.Join(items, " / "))
}

// words removes the "/ end" of the syntax of testpmd.
func words(list string) string { return strings.TrimSuffix(list, " / end") }

// kind returns the first part of the name of a rule, such as flow in flow/12.
func (r ruleRow) kind() string {
	kind, _, _ := strings.Cut(r.name, "/")
	return kind
}

// foldRows replaces more than most rows with the same kind, priority and edges by one row.
func foldRows(rows []ruleRow, most int) []ruleRow {
	key := func(r ruleRow) string { return fmt.Sprint(r.priority, r.kind(), r.edges) }
	number := map[string]int{}
	for _, r := range rows {
		number[key(r)]++
	}
	var folded []ruleRow
	at := map[string]int{} // indexes of folded rows
	for _, r := range rows {
		k := key(r)
		if most == 0 || number[k] <= most {
			folded = append(folded, r)
			continue
		}
		i, begun := at[k]
		if !begun {
			i, at[k] = len(folded), len(folded)
			folded = append(folded, ruleRow{
				priority: r.priority, name: r.kind(), pattern: fmt.Sprintf("%d rules", number[k]), edges: r.edges,
			})
		}
		folded[i].count(r.hits)
	}
	return folded
}

func (r *ruleRow) count(hits *uint64) {
	if hits == nil {
		return
	}
	sum := *hits
	if r.hits != nil {
		sum += *r.hits
	}
	r.hits = &sum
}

func (d *ruleDrawing) dot() string {
	var w strings.Builder
	w.WriteString("digraph rules {\n\trankdir=LR;\n\tnode [fontname=\"monospace\", fontsize=10];\n" +
		"\tedge [fontname=\"monospace\", fontsize=9];\n")
	shared := slices.IndexFunc(d.boxes, ruleBox.ofAllPorts)
	if shared < 0 {
		shared = len(d.boxes)
	}
	for start := 0; start < shared; {
		port := d.boxes[start].port
		end := start
		for end < shared && d.boxes[end].port == port {
			end++
		}
		d.writePort(&w, d.boxes[start:end])
		start = end
	}
	if shared < len(d.boxes) {
		d.writeShared(&w, d.boxes[shared:])
	}
	d.writeEdges(&w)
	w.WriteString("}\n")
	return w.String()
}

// writePort writes the boxes of one port.
func (d *ruleDrawing) writePort(w io.Writer, boxes []ruleBox) {
	port := boxes[0].port
	d.writeBoxes(w, fmt.Sprintf("p%d", port), fmt.Sprintf("%s (port %d)", d.names[port], port), boxes)
	fmt.Fprintf(w, "\t\tin%d [label=\"a packet\\narrives\", shape=plaintext];\n", port)
	fmt.Fprintf(w, "\t\t%s [label=\"software\\n(RX queue)\", shape=ellipse];\n\t}\n", software(port))
}

// writeShared writes the boxes whose rules are for all ports.
func (d *ruleDrawing) writeShared(w io.Writer, boxes []ruleBox) {
	d.writeBoxes(w, "all", "packets of all ports", boxes)
	fmt.Fprint(w, "\t}\n")
}

// writeBoxes begins a cluster and writes its boxes.
func (d *ruleDrawing) writeBoxes(w io.Writer, id, label string, boxes []ruleBox) {
	fmt.Fprintf(w, "\tsubgraph cluster_%s {\n\t\tlabel=%q;\n\t\tfontname=\"monospace\";\n\t\tstyle=rounded;\n", id, label)
	for _, b := range boxes {
		d.writeBox(w, b)
	}
}

func (d *ruleDrawing) writeBox(w io.Writer, b ruleBox) {
	fmt.Fprintf(w, "\t\t%s [shape=plain, label=<<TABLE BORDER=\"1\" CELLBORDER=\"0\" CELLSPACING=\"4\">\n", b.id())
	fmt.Fprintf(w, "\t\t\t<TR><TD ALIGN=\"LEFT\" COLSPAN=\"4\"><B>%s</B></TD></TR>\n", html.EscapeString(b.title()))
	for i, r := range d.rows[b] {
		fmt.Fprintf(w, "\t\t\t<TR><TD ALIGN=\"LEFT\">%d</TD><TD ALIGN=\"LEFT\">%s</TD><TD ALIGN=\"LEFT\">%s</TD>"+
			"<TD ALIGN=\"RIGHT\" PORT=\"r%d\">%s</TD></TR>\n",
			r.priority, html.EscapeString(r.name), html.EscapeString(r.does()), i, r.counted())
	}
	fmt.Fprint(w, "\t\t</TABLE>>];\n")
}

// does returns the text of a row: what it matches, and its actions.
func (r ruleRow) does() string {
	if r.actions == "" {
		return r.pattern
	}
	return r.pattern + " → " + r.actions
}

func (r ruleRow) counted() string {
	if r.hits == nil {
		return ""
	}
	return fmt.Sprintf("%d hits", *r.hits)
}

// writeEdges writes the edges between the boxes, and the nodes outside of them.
func (d *ruleDrawing) writeEdges(w io.Writer) {
	outside := map[string]bool{}
	for _, b := range d.boxes {
		if b.domain == "transfer" && b.group == 0 {
			fmt.Fprintf(w, "\tin%d -> %s;\n", b.port, b.id())
		}
		for i, r := range d.rows[b] {
			for _, e := range r.edges {
				style := ""
				if e.copy {
					style = " [style=dashed, label=\"copy\"]"
				}
				fmt.Fprintf(w, "\t%s:r%d -> %s%s;\n", b.id(), i, e.to, style)
				outside[e.to] = true
			}
		}
		if b.domain == "transfer" && !b.ofAllPorts() { // there a base rule takes what no other does
			fmt.Fprintf(w, "\t%s -> %s [style=dotted, label=\"no match\"];\n", b.id(), d.missed(b.port))
		}
	}
	d.writeOutside(w, outside)
}

// portName returns the name of a port if it has rules in the drawing, otherwise its number.
func (d *ruleDrawing) portName(id string) string {
	number, err := strconv.ParseUint(id, 10, 16)
	if name, ok := d.names[uint16(number)]; ok && err == nil {
		return name
	}
	return "port " + id
}

// missed returns where a packet goes that matches no transfer rule: to the ingress rules of the port, or to the
// software.
func (d *ruleDrawing) missed(port uint16) string {
	if ingress := (ruleBox{port: port, domain: "ingress"}); slices.Contains(d.boxes, ingress) {
		return ingress.id()
	}
	return software(port)
}

func (d *ruleDrawing) writeOutside(w io.Writer, used map[string]bool) {
	var nodes []string
	for node := range used {
		if id, ok := strings.CutPrefix(node, "out"); ok {
			nodes = append(nodes, fmt.Sprintf("\t%s [label=%q, shape=cds];\n", node, "out of "+d.portName(id)))
		} else if node == "drop" {
			nodes = append(nodes, "\tdrop [shape=octagon];\n")
		}
	}
	slices.Sort(nodes)
	fmt.Fprint(w, strings.Join(nodes, ""))
}
