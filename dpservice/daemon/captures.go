// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"dpservice/capture/spec"
	"dpservice/dpservice/audit"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/state"
	"dpservice/wire"
)

const (
	// retryPeriod is how often a capture that could not be restored is tried again: its router may not be known yet.
	retryPeriod = time.Second
	// retriesPerCheckpoint says how often counters are kept: a daemon that is killed loses those since the last time.
	retriesPerCheckpoint = 5
)

// captures are those that clients start.
type captures interface {
	Start(ctx context.Context, r spec.Request) (spec.Session, error)
	Stop(name string) (stopped int, err error)
	Status() (sessions, ended []spec.Session)
	Capabilities() []spec.PortCapabilities
}

// keptCaptures keeps captures in the store. After a restart they go on under their names, with what they had counted
// and a warning that tells of the gap. Held ones end with their clients' connections, so with the daemon at the latest.
type keptCaptures struct {
	captures
	store *state.Store
	audit *audit.Log // nil if nothing is written down
	vniOf func(id string) uint32
	log   *slog.Logger
	now   func() time.Time

	changing sync.Mutex // one change at a time; it may take as long as the NIC does

	mu          sync.Mutex // of what follows
	records     map[string]state.Capture
	restoreErrs map[string]error // by name: why a capture could not be restored the last time
}

// Start implements captures. It refuses the name of one that could not be restored yet.
func (k *keptCaptures) Start(ctx context.Context, r spec.Request) (spec.Session, error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if len(k.waiting(r.Name)) > 0 {
		return spec.Session{}, fault.New(fault.AlreadyActive, r.Name,
			"capture %s was there before a restart and waits to be restored: stop it first, or choose another name", r.Name)
	}
	s, err := k.captures.Start(ctx, r)
	if err != nil || r.DryRun || r.Held {
		return s, err
	}
	record := captureRecord(s)
	if err := k.keep(record); err != nil {
		_, undo := k.captures.Stop(s.Name)
		return spec.Session{}, errors.Join(err, undo)
	}
	return s, nil
}

// Stop implements captures. It also stops one that could not be restored.
func (k *keptCaptures) Stop(name string) (int, error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	stopped, err := k.captures.Stop(name)
	if err != nil && !fault.Is(err, fault.NotActive) && !fault.Is(err, fault.NotFound) {
		return stopped, errors.Join(err, k.checkpoint())
	}
	waiting := k.waiting(name)
	for _, r := range waiting {
		if err := k.drop(r.Name); err != nil {
			return stopped, err
		}
		k.audit.CaptureEnded(sessionOf(r), audit.NotRestored, k.vniOf)
	}
	if len(waiting) > 0 {
		err = nil
	}
	return stopped, errors.Join(err, k.checkpoint())
}

// waiting are the captures of that name, or all if it is empty, that could not be restored yet.
func (k *keptCaptures) waiting(name string) []state.Capture {
	return slices.DeleteFunc(k.all(), func(r state.Capture) bool { return !r.Waiting || name != "" && name != r.Name })
}

// all are the records, ordered by name.
func (k *keptCaptures) all() []state.Capture {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.SortedFunc(maps.Values(k.records), func(a, b state.Capture) int { return cmp.Compare(a.Name, b.Name) })
}

// Status implements captures.
func (k *keptCaptures) Status() (sessions, ended []spec.Session) {
	sessions, ended = k.captures.Status()
	k.mu.Lock()
	defer k.mu.Unlock()
	sessions = slices.Clone(sessions)
	for i, s := range sessions {
		if r, ok := k.records[s.Name]; ok && s.State != spec.DryRun && !s.Held {
			sessions[i] = withHistory(s, r)
		}
	}
	return sessions, ended
}

// Waiting returns the captures that could not be restored yet, with the reason as a warning.
func (k *keptCaptures) Waiting() []spec.Session {
	var sessions []spec.Session
	for _, r := range k.waiting("") {
		s := sessionOf(r)
		s.State = spec.Waiting
		if err := k.restoreErr(r.Name); err != nil {
			s.Warnings = append(s.Warnings, fmt.Sprintf("not restored: %v", err))
		}
		sessions = append(sessions, s)
	}
	return sessions
}

func (k *keptCaptures) restoreErr(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.restoreErrs[name]
}

// whole returns a session with what it was before the restarts.
func (k *keptCaptures) whole(s spec.Session) spec.Session {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r, ok := k.records[s.Name]; ok && !s.Held {
		return withHistory(s, r)
	}
	return s
}

// Run keeps the counters, and tries again what could not be restored, until ctx is done.
func (k *keptCaptures) Run(ctx context.Context) {
	ticker := time.NewTicker(retryPeriod)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := k.retry(ctx)
		if n%retriesPerCheckpoint == 0 {
			err = errors.Join(err, k.Checkpoint())
		}
		if err != nil {
			k.log.Warn("the captures are not kept", "err", err)
		}
	}
}

// retry starts captures that could not be restored, if that is possible now.
func (k *keptCaptures) retry(ctx context.Context) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	for _, r := range k.waiting("") {
		err := k.restart(ctx, &r)
		if err == nil {
			k.log.Info("a capture is restored", "capture", r.Name)
		}
		if err == nil || errors.Is(err, errOver) {
			err = k.settle(r, err)
		} else {
			err = nil // next time
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Checkpoint keeps what the captures have counted, and forgets those that have ended.
func (k *keptCaptures) Checkpoint() error {
	k.changing.Lock()
	defer k.changing.Unlock()
	return k.checkpoint()
}

func (k *keptCaptures) checkpoint() error {
	if err := k.forgetDeleted(k.waiting("")); err != nil {
		return err
	}
	active := k.active()
	for _, r := range k.all() {
		s, ok := active[r.Name]
		switch {
		case ok:
			r.Seen = k.now()
			r.Targets = targetsOf(s)
			r.Counted = addCounts(r.Base, s)
			if err := k.keep(r); err != nil {
				return err
			}
		case !r.Waiting:
			if err := k.drop(r.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetDeleted takes interfaces that are no longer kept out of captures that could not be restored: an interface that
// is later created with the same id may be another tenant's. A capture of which nothing is left is dropped.
func (k *keptCaptures) forgetDeleted(captures []state.Capture) error {
	if len(captures) == 0 {
		return nil
	}
	interfaces, err := k.store.Interfaces.All()
	if err != nil {
		return err
	}
	isDeleted := func(t state.Target) bool {
		return t.VF != "" && !slices.ContainsFunc(interfaces, func(i state.Interface) bool { return i.ID == t.VF })
	}
	for _, r := range captures {
		left := slices.DeleteFunc(slices.Clone(r.Targets), isDeleted)
		switch {
		case len(left) == len(r.Targets):
		case len(left) > 0:
			r.Targets = left
			err = k.keep(r)
		default:
			k.audit.CaptureEnded(sessionOf(r), string(spec.InterfaceDeleted), k.vniOf)
			err = k.drop(r.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// active are the sessions that go on, by their names.
func (k *keptCaptures) active() map[string]spec.Session {
	sessions, _ := k.captures.Status()
	active := map[string]spec.Session{}
	for _, s := range sessions {
		if s.State != spec.DryRun && !s.Held {
			active[s.Name] = s
		}
	}
	return active
}

func (k *keptCaptures) keep(r state.Capture) error {
	if err := k.store.Captures.Put(r.Name, r); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.records[r.Name] = r
	return nil
}

func (k *keptCaptures) drop(name string) error {
	if _, err := k.store.Captures.Delete(name); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.records, name)
	delete(k.restoreErrs, name)
	return nil
}

// errOver means that a capture has reached its limit.
var errOver = errors.New("it has reached its limit")

// restore starts the captures that were there. One that cannot start is tried again until it is stopped.
func (k *keptCaptures) restore(ctx context.Context) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	all, err := k.store.Captures.All()
	if err != nil {
		return err
	}
	k.mu.Lock()
	for _, r := range all {
		r.Base, r.Waiting = r.Counted, true
		k.records[r.Name] = r
	}
	k.mu.Unlock()
	if err := k.forgetDeleted(k.all()); err != nil { // a kill may have come between an interface and its captures
		return err
	}
	failed := 0
	for _, r := range k.all() {
		err := k.restart(ctx, &r)
		if err != nil {
			failed++
			k.log.Warn("not restored", "capture", r.Name, "err", err)
		}
		if err := k.settle(r, err); err != nil {
			return err
		}
	}
	k.log.Info("the captures are restored", "captures", len(all), "failed", failed)
	return nil
}

// restart starts what is left of a capture, and notes the gap, or why it does not start.
func (k *keptCaptures) restart(ctx context.Context, r *state.Capture) error {
	request, over := k.rest(*r)
	if over {
		return errOver
	}
	s, err := k.captures.Start(ctx, request)
	k.noteRestoreErr(r.Name, err)
	if err != nil {
		return err
	}
	r.Gaps = append(r.Gaps, state.Gap{From: r.Seen, To: k.now()})
	r.Seen, r.Waiting = k.now(), false
	k.audit.CaptureRestored(withHistory(s, *r), k.vniOf)
	return nil
}

// noteRestoreErr notes why a capture is not restored; nil if it is.
func (k *keptCaptures) noteRestoreErr(name string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		delete(k.restoreErrs, name)
		return
	}
	k.restoreErrs[name] = err
}

// settle keeps what has become of a capture that was tried to restart: err says so.
func (k *keptCaptures) settle(r state.Capture, err error) error {
	if errors.Is(err, errOver) {
		k.audit.CaptureEnded(sessionOf(r), audit.OverAtStart, k.vniOf)
		return k.drop(r.Name)
	}
	return k.keep(r)
}

// rest is the request for what is left of a capture, and whether nothing is.
func (k *keptCaptures) rest(r state.Capture) (request spec.Request, over bool) {
	request = spec.Request{
		Name: r.Name, Sink: r.Sink, UDPSrcPort: r.UDPSrcPort, UDPDstPort: r.UDPDstPort, Encap: wire.Encap(r.Encap),
		Direction: spec.Direction(r.Direction), Drops: r.Drops, Filter: r.Filter,
	}
	for _, t := range r.Targets {
		request.Targets = append(request.Targets, spec.Target{VF: t.VF, PF: t.PF})
	}
	limits := &request.Limits
	if r.Duration != 0 {
		limits.Duration = r.Duration - k.now().Sub(r.StartedAt)
		over = over || limits.Duration <= 0
	}
	left := func(limit, used uint64) uint64 {
		if limit == 0 {
			return 0
		}
		over = over || used >= limit
		return limit - min(used, limit)
	}
	limits.Packets = left(r.Packets, r.Base.Packets)
	limits.Bytes = left(r.Bytes, r.Base.Bytes)
	limits.PacketsPerSecond = r.Rate
	return request, over
}

func captureRecord(s spec.Session) state.Capture {
	return state.Capture{
		Name: s.Name, Sink: s.Sink, UDPSrcPort: s.UDPSrcPort, UDPDstPort: s.UDPDstPort, Encap: string(s.Encap),
		Direction: string(s.Direction), Drops: s.Drops, Filter: s.Filter, Duration: s.Limits.Duration,
		Packets: s.Limits.Packets, Bytes: s.Limits.Bytes, Rate: s.Limits.PacketsPerSecond, Targets: targetsOf(s),
		StartedAt: s.StartedAt, Seen: s.StartedAt,
	}
}

// sessionOf is a capture that is not there any more, as its record has it.
func sessionOf(r state.Capture) spec.Session {
	s := spec.Session{
		Name: r.Name, Sink: r.Sink, UDPSrcPort: r.UDPSrcPort, UDPDstPort: r.UDPDstPort, Encap: wire.Encap(r.Encap),
		Direction: spec.Direction(r.Direction), Drops: r.Drops, Filter: r.Filter, StartedAt: r.StartedAt,
	}
	request := spec.Request{Direction: s.Direction, Drops: s.Drops}
	for _, t := range r.Targets {
		target := spec.Target{VF: t.VF, PF: t.PF}
		directions, _ := request.Directions(target) // it was started, so it has some
		for _, d := range directions {
			s.Interfaces = append(s.Interfaces, spec.SessionInterface{Target: target, Direction: d})
		}
	}
	return withHistory(s, r)
}

// targetsOf are what a session captures now: interfaces that were deleted are not among them.
func targetsOf(s spec.Session) []state.Target {
	var all []state.Target
	for _, i := range s.Interfaces {
		t := state.Target{VF: i.VF, PF: i.PF}
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all
}

// countKey names a direction of an interface in a record.
func countKey(i spec.SessionInterface) string { return fmt.Sprintf("%s/%s", i.Target, i.Direction) }

// addCounts is what a session has counted since it was first started.
func addCounts(base state.Counts, s spec.Session) state.Counts {
	sum := state.Counts{Interfaces: map[string]state.Count{}}
	sum.Packets, sum.Bytes = base.Packets+s.Packets, base.Bytes+s.Bytes
	for key, c := range base.Interfaces {
		sum.Interfaces[key] = c
	}
	for _, i := range s.Interfaces {
		key := countKey(i)
		c := base.Interfaces[key]
		sum.Interfaces[key] = state.Count{Packets: c.Packets + i.Packets, Bytes: c.Bytes + i.Bytes}
	}
	return sum
}

// withHistory adds to a session what it was before the restarts.
func withHistory(s spec.Session, r state.Capture) spec.Session {
	counts := addCounts(r.Base, s)
	s.StartedAt = r.StartedAt
	s.Packets, s.Bytes = counts.Packets, counts.Bytes
	s.Limits = spec.Limits{Duration: r.Duration, Packets: r.Packets, Bytes: r.Bytes, PacketsPerSecond: r.Rate}
	s.Interfaces = slices.Clone(s.Interfaces)
	for n := range s.Interfaces {
		c := counts.Interfaces[countKey(s.Interfaces[n])]
		s.Interfaces[n].Packets, s.Interfaces[n].Bytes = c.Packets, c.Bytes
	}
	s.Warnings = slices.Clone(s.Warnings)
	for _, g := range r.Gaps {
		s.Warnings = append(s.Warnings, fmt.Sprintf("dpservice was restarted: nothing was captured from %s to %s, for %v",
			g.From.UTC().Format(time.DateTime), g.To.UTC().Format(time.DateTime), g.To.Sub(g.From).Round(time.Millisecond)))
	}
	return s
}
