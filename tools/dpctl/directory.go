// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"dpservice/capture/receive"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/wire"
)

const (
	// askTimeout is how long the daemon may take to answer, and askInterval is the minimum time between two questions
	// about unknown senders. No copy is read while dpctl waits.
	askTimeout  = 300 * time.Millisecond
	askInterval = 3 * time.Second
	// keepInterval is how often the daemon is asked in any case, so that it does not close the connection.
	keepInterval = 10 * time.Second
)

// directory knows the names of senders. They come from the command line, and from the daemon at the socket if there is
// one. It keeps its connection to the daemon, since a process that has dropped its privileges may not be allowed to
// open a new one.
type directory struct {
	app   *app
	given map[receive.Sender]string // a sender without a node matches any node

	mu     sync.Mutex
	client *client.Client // nil if there is no connection
	known  map[receive.Sender]point
	asked  time.Time
}

// newDirectory connects to the daemon and keeps the connection open until the process exits.
func newDirectory(a *app, given map[receive.Sender]string) *directory {
	d := &directory{app: a, given: given}
	go func() {
		for range time.Tick(keepInterval) {
			d.mu.Lock()
			d.ask()
			d.mu.Unlock()
		}
	}()
	return d
}

// parseNames parses LABEL=NAME and NODE/LABEL=NAME.
func parseNames(texts []string) (map[receive.Sender]string, error) {
	names := make(map[receive.Sender]string)
	for _, text := range texts {
		key, name, ok := strings.Cut(text, "=")
		var s receive.Sender
		label := key
		if node, rest, found := strings.Cut(key, "/"); found {
			addr, err := netip.ParseAddr(node)
			if err != nil || !addr.Is6() || addr.Is4In6() {
				return nil, fmt.Errorf("--name: %q is not an IPv6 address", node)
			}
			s.Node, label = addr, rest
		}
		n, err := strconv.ParseUint(label, 10, 24)
		if !ok || name == "" || err != nil || n == 0 {
			return nil, fmt.Errorf("--name: want LABEL=NAME, not %q", text)
		}
		s.Label = wire.Label(n)
		names[s] = name
	}
	return names, nil
}

// describe returns what is known about a sender.
func (d *directory) describe(s receive.Sender) receive.Description {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := receive.Sender{Node: s.Node, Label: s.Label.WithoutReason()}
	if _, ok := d.known[key]; !ok && time.Since(d.asked) >= askInterval {
		d.ask()
	}
	var description receive.Description
	if p, ok := d.known[key]; ok {
		description = p.describe(s.Label)
	}
	for _, g := range givenFor(s) {
		if name := d.given[g.sender]; name != "" {
			description.Name = name + g.suffix
			// If the daemon knows the sender, the node is confirmed, even if the name comes from the command line.
			description.AnyNode = !g.sender.Node.IsValid() && description.Comment == ""
			break
		}
	}
	return description
}

// givenFor returns the keys of the names that apply to a sender, the most specific first. The name of what a VM sends
// also applies, with a suffix, to what it receives, and to what is dropped of it.
func givenFor(s receive.Sender) []struct {
	sender receive.Sender
	suffix string
} {
	type name = struct {
		sender receive.Sender
		suffix string
	}
	names := []name{{s, ""}, {receive.Sender{Label: s.Label}, ""}}
	label, suffix := s.Label^wire.LabelTX, txSuffix
	if sent, reason, is := s.Label.Dropped(); is {
		label, suffix = sent, receive.DropInfix+reason.String()
	} else if s.Label&wire.LabelTX == 0 {
		return names
	}
	return append(names, name{receive.Sender{Node: s.Node, Label: label}, suffix},
		name{receive.Sender{Label: label}, suffix})
}

// ask asks the daemon which interfaces are captured.
func (d *directory) ask() {
	d.asked = time.Now()
	status, info, err := d.captures()
	if err != nil {
		return // names are optional: the label identifies the sender
	}
	node, err := netip.ParseAddr(info.Underlay.IP)
	if err != nil {
		return
	}
	d.known = make(map[receive.Sender]point)
	for _, s := range status.Sessions {
		for _, i := range s.Interfaces {
			d.known[receive.Sender{Node: node, Label: wire.Label(i.Label)}] = point{s.Name, i}
		}
	}
}

// point is something that a capture copies: one direction of an interface.
type point struct {
	capture string
	of      api.CaptureInterface
}

// has reports whether a label is of the point's copies.
func (p point) has(l wire.Label) bool { return l.WithoutReason() == wire.Label(p.of.Label) }

// describe describes the point's copies with a label.
func (p point) describe(l wire.Label) receive.Description {
	name, direction := pointName(p.of), p.of.Direction
	if _, reason, is := l.Dropped(); is {
		name, direction = targetName(p.of.CaptureTarget)+receive.DropInfix+reason.String(), "dropped: "+reason.String()
	}
	return receive.Description{
		Name: name,
		Comment: fmt.Sprintf("capture %s of %s on port %s, %s", p.capture, targetName(p.of.CaptureTarget), p.of.Port,
			direction),
	}
}

// captures asks the daemon for its captures and its underlay address. It uses the existing connection, or opens a new
// one.
func (d *directory) captures() (status api.CaptureStatusResult, info api.SystemInfoResult, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if d.client != nil {
		if status, info, err = askCaptures(ctx, d.client); err == nil {
			return status, info, nil
		}
		_ = d.client.Close() // the connection is broken
		d.client = nil
	}
	c, err := client.Dial(ctx, d.app.socket)
	if err != nil {
		return status, info, err
	}
	d.client = c
	return askCaptures(ctx, c)
}

func askCaptures(ctx context.Context, c *client.Client) (status api.CaptureStatusResult, info api.SystemInfoResult,
	err error) {
	if err = c.Call(ctx, api.MethodSystemInfo, nil, &info); err == nil {
		err = c.Call(ctx, api.MethodCaptureStatus, nil, &status)
	}
	return status, info, err
}

// comment describes the sessions whose copies are expected.
func (d *directory) comment(listen netip.AddrPort) string {
	text := fmt.Sprintf("copies received on %s", listen)
	d.mu.Lock()
	status, info, err := d.captures()
	d.mu.Unlock()
	if err != nil {
		return text
	}
	for _, s := range status.Sessions {
		if s.UDPDstPort != listen.Port() {
			continue
		}
		text += fmt.Sprintf("\ncapture %s of node %s, %s, to %s port %d, encap %s", s.Name, info.Underlay.IP, s.State,
			s.SinkNodeIP, s.UDPDstPort, s.Encap)
		if s.StartedAt != nil {
			text += ", started " + s.StartedAt.UTC().Format(time.RFC3339)
		}
		for _, i := range s.Interfaces {
			text += fmt.Sprintf("\n%s: label %d, port %s, %s", pointName(i), i.Label, i.Port, i.Direction)
		}
	}
	return text
}
