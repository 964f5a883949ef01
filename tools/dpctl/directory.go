// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"dpservice/capture/receive"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
)

const (
	// askTimeout is how long a daemon may take to say who the senders are, and askInterval how often it is asked at most:
	// meanwhile no copy is read.
	askTimeout  = 300 * time.Millisecond
	askInterval = 3 * time.Second
)

// directory knows the names of senders: those given on the command line, and those of the daemon at the socket, if there is
// one.
type directory struct {
	app   *app
	given map[receive.Sender]string // a sender without a node is any node's
	known map[receive.Sender]receive.Description
	asked time.Time
}

// parseNames reads LABEL=NAME and NODE/LABEL=NAME.
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
		s.Label = uint32(n)
		names[s] = name
	}
	return names, nil
}

// describe says what is known of a sender.
func (d *directory) describe(s receive.Sender) receive.Description {
	if _, ok := d.known[s]; !ok {
		d.ask()
	}
	description := d.known[s]
	for _, key := range []receive.Sender{s, {Label: s.Label}} {
		if name := d.given[key]; name != "" {
			description.Name = name
			break
		}
	}
	return description
}

// ask asks the daemon who is captured.
func (d *directory) ask() {
	if time.Since(d.asked) < askInterval {
		return
	}
	d.asked = time.Now()
	status, info, err := d.app.captures(context.Background())
	if err != nil {
		return // names are an extra: labels tell the senders apart
	}
	node, err := netip.ParseAddr(info.Underlay.IP)
	if err != nil {
		return
	}
	d.known = make(map[receive.Sender]receive.Description)
	for _, s := range status.Sessions {
		for _, i := range s.Interfaces {
			d.known[receive.Sender{Node: node, Label: i.Label}] = receive.Description{
				Name:    pointName(i),
				Comment: fmt.Sprintf("capture %s of %s on port %s, %s", s.Name, targetName(i.CaptureTarget), i.Port, i.Direction),
			}
		}
	}
}

// captures asks the daemon, if there is one, for its captures and its place in the underlay.
func (a *app) captures(ctx context.Context) (api.CaptureStatusResult, api.SystemInfoResult, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var status api.CaptureStatusResult
	var info api.SystemInfoResult
	c, err := client.Dial(ctx, a.socket)
	if err != nil {
		return status, info, err
	}
	if err = c.Call(ctx, api.MethodSystemInfo, nil, &info); err == nil {
		err = c.Call(ctx, api.MethodCaptureStatus, nil, &status)
	}
	_ = c.Close() // the answers are here already
	return status, info, err
}

// comment describes the sessions whose copies are expected.
func (d *directory) comment(ctx context.Context, listen netip.AddrPort) string {
	text := fmt.Sprintf("copies received on %s", listen)
	status, info, err := d.app.captures(ctx)
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
