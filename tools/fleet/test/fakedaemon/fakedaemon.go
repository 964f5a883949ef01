// SPDX-License-Identifier: Apache-2.0

// Package fakedaemon is a dpservice without a NIC: its captures count nothing unless a test says so.
package fakedaemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dpservice/rpc/api"
	"dpservice/rpc/client"
)

// The bounds of a dpservice.
const (
	maxInterfaces = 16
	maxHistory    = 16
)

// ErrDown is what a daemon answers that is not there.
var ErrDown = errors.New("no daemon at the socket")

// Daemon is a dpservice. It is safe for concurrent use.
type Daemon struct {
	Now func() time.Time // time.Now, unless a test changes it

	mu         sync.Mutex
	down       bool
	refuse     bool
	node       string
	interfaces map[string]uint32
	sessions   []api.CaptureSession
	history    []api.CaptureSession
	labels     uint32
	starts     int
	asked      bool
	stopped    []string
}

// New returns a Daemon without interfaces. Node is its underlay address.
func New(node string) *Daemon {
	return &Daemon{Now: time.Now, node: node, interfaces: map[string]uint32{}}
}

// AddInterface creates an interface, or creates it anew.
func (d *Daemon) AddInterface(id string, vni uint32) {
	d.DeleteInterface(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.interfaces[id] = vni
}

// DeleteInterface deletes an interface, and ends its part of a capture.
func (d *Daemon) DeleteInterface(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.interfaces, id)
	for _, s := range slices.Clone(d.sessions) {
		left := slices.DeleteFunc(slices.Clone(s.Interfaces), func(i api.CaptureInterface) bool { return i.VF == id })
		if len(left) == 0 {
			d.end(s.Name, "interface_deleted")
			continue
		}
		d.session(s.Name).Interfaces = left
	}
}

// SetDown takes the daemon away, or brings it back with the captures that it had.
func (d *Daemon) SetDown(down bool) { d.set(func() { d.down = down }) }

// SetRefuse has the daemon refuse to start captures.
func (d *Daemon) SetRefuse(refuse bool) { d.set(func() { d.refuse = refuse }) }

// Forget loses the history, as a restart does.
func (d *Daemon) Forget() { d.set(func() { d.history = nil }) }

// Lose loses a session, as a restart does that cannot restore it.
func (d *Daemon) Lose() {
	d.set(func() {
		if len(d.sessions) > 0 {
			d.sessions = slices.Clone(d.sessions[1:])
		}
	})
}

// Copy has each session copy packets, of 100 bytes.
func (d *Daemon) Copy(packets uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.sessions {
		s := &d.sessions[i]
		s.Packets += packets
		s.Bytes += 100 * packets
	}
	d.expire()
}

// Stopped returns the names of the sessions that were stopped by request.
func (d *Daemon) Stopped() (names []string) {
	d.set(func() { names = slices.Clone(d.stopped) })
	return names
}

// Starts returns how many captures were started.
func (d *Daemon) Starts() (n int) {
	d.set(func() { n = d.starts })
	return n
}

// Asked returns whether anybody has asked for the captures.
func (d *Daemon) Asked() (asked bool) {
	d.set(func() { asked = d.asked })
	return asked
}

func (d *Daemon) set(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

// UnderlayIP returns the node's underlay address.
func (d *Daemon) UnderlayIP(context.Context) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node, d.err()
}

func (d *Daemon) err() error {
	if d.down {
		return ErrDown
	}
	return nil
}

// Interfaces lists the interfaces, in order.
func (d *Daemon) Interfaces(context.Context) ([]api.Interface, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []api.Interface
	for id, vni := range d.interfaces {
		all = append(all, api.Interface{ID: id, VNI: vni})
	}
	slices.SortFunc(all, func(a, b api.Interface) int { return compare(a.ID, b.ID) })
	return all, d.err()
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

// Captures is capture.status.
func (d *Daemon) Captures(context.Context) (api.CaptureStatusResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire()
	d.asked = true
	return api.CaptureStatusResult{
		Active: len(d.sessions) > 0, Sessions: slices.Clone(d.sessions), History: slices.Clone(d.history),
	}, d.err()
}

// Start is capture.start.
func (d *Daemon) Start(_ context.Context, p api.CaptureStartParams) (api.CaptureSession, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire()
	if err := d.err(); err != nil {
		return api.CaptureSession{}, err
	}
	s, err := d.newSession(p)
	if err != nil {
		return s, err
	}
	d.sessions = append(d.sessions, s)
	d.starts++
	return s, nil
}

func (d *Daemon) newSession(p api.CaptureStartParams) (api.CaptureSession, error) {
	if d.refuse {
		return api.CaptureSession{}, refuse(api.CodeRuleRejected, "RULE_REJECTED", "the driver refused a rule")
	}
	now := d.Now()
	s := api.CaptureSession{
		Name: p.Name, State: "active", StartedAt: &now, SinkNodeIP: p.SinkNodeIP, UDPDstPort: p.UDPDstPort, Encap: p.Encap,
		Direction: p.Direction, Drops: p.Drops, Filter: p.Filter, Limits: p.Limits, Warnings: []string{},
	}
	captured := len(p.Interfaces)
	for _, other := range d.sessions {
		captured += len(other.Interfaces)
		if other.Name == p.Name {
			return s, refuse(api.CodeAlreadyActive, "ALREADY_ACTIVE", "capture %s is active", p.Name)
		}
	}
	if captured > maxInterfaces {
		return s, refuse(api.CodeLimitReached, "LIMIT_REACHED", "%d interfaces to capture", captured)
	}
	for _, of := range p.Interfaces {
		t := api.CaptureTarget{VF: of.VF, PF: of.PF}
		if _, ok := d.interfaces[t.VF]; t.PF == nil && !ok {
			return s, refuse(api.CodeNotFound, "NOT_FOUND", "no interface %s", t.VF)
		}
		if by := d.capturing(t); by != "" {
			return s, refuse(api.CodeAlreadyActive, "ALREADY_ACTIVE", "%s is captured by session %s", t.VF, by)
		}
		d.labels++
		s.Interfaces = append(s.Interfaces, api.CaptureInterface{
			CaptureTarget: t, Direction: "rx", Mode: "hardware", Label: d.labels,
		})
	}
	return s, nil
}

func (d *Daemon) capturing(t api.CaptureTarget) string {
	for _, s := range d.sessions {
		for _, i := range s.Interfaces {
			if i.VF == t.VF && (i.PF == nil) == (t.PF == nil) {
				return s.Name
			}
		}
	}
	return ""
}

// Stop is capture.stop.
func (d *Daemon) Stop(_ context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire()
	if err := d.err(); err != nil {
		return err
	}
	if d.session(name) == nil {
		return refuse(api.CodeNotFound, "NOT_FOUND", "no session %s", name)
	}
	d.stopped = append(d.stopped, name)
	d.end(name, "stopped")
	return nil
}

func (d *Daemon) session(name string) *api.CaptureSession {
	for i := range d.sessions {
		if d.sessions[i].Name == name {
			return &d.sessions[i]
		}
	}
	return nil
}

func (d *Daemon) end(name, reason string) {
	s := *d.session(name)
	s.State, s.EndReason = "ended", reason
	d.sessions = slices.DeleteFunc(slices.Clone(d.sessions), func(s api.CaptureSession) bool { return s.Name == name })
	d.history = append([]api.CaptureSession{s}, d.history...)
	d.history = d.history[:min(len(d.history), maxHistory)]
}

// expire ends the sessions that have reached a limit.
func (d *Daemon) expire() {
	for _, s := range slices.Clone(d.sessions) {
		if s.Limits == nil {
			continue
		}
		most, _ := time.ParseDuration(s.Limits.Duration) // empty: 0
		switch {
		case most > 0 && d.Now().Sub(*s.StartedAt) >= most:
			d.end(s.Name, "duration")
		case s.Limits.Packets > 0 && s.Packets >= s.Limits.Packets:
			d.end(s.Name, "packets")
		case s.Limits.Bytes > 0 && s.Bytes >= s.Limits.Bytes:
			d.end(s.Name, "bytes")
		}
	}
}

func refuse(code api.Code, reason, format string, args ...any) error {
	return &client.Error{Code: code, Message: fmt.Sprintf(format, args...), Data: api.ErrorData{Reason: reason}}
}
