// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/spec"
	"dpservice/dpservice/audit"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/state"
	"dpservice/wire"
)

// fakeCaptures captures the interfaces that a test names.
type fakeCaptures struct {
	interfaces map[string]bool
	sessions   map[string]*spec.Session
	requests   []spec.Request
	now        func() time.Time
}

func (f *fakeCaptures) Start(_ context.Context, r spec.Request) (spec.Session, error) {
	s := spec.Session{
		Name: r.Name, State: spec.Active, StartedAt: f.now(), Sink: r.Sink, UDPSrcPort: r.UDPSrcPort,
		UDPDstPort: r.UDPDstPort,
		Encap:      r.Encap, Direction: r.Direction, Filter: r.Filter, Limits: r.Limits,
		Held: r.Held, Drops: r.Drops,
	}
	for _, t := range r.Targets {
		if !f.interfaces[t.String()] {
			return spec.Session{}, fault.New(fault.NotFound, t.String(), "no interface %q", t)
		}
		s.Interfaces = append(s.Interfaces, spec.SessionInterface{Target: t, Direction: spec.RX})
	}
	if r.DryRun {
		s.State = spec.DryRun
		return s, nil
	}
	f.requests = append(f.requests, r)
	f.sessions[r.Name] = &s
	return s, nil
}

func (f *fakeCaptures) Stop(name string) (int, error) {
	if _, ok := f.sessions[name]; !ok {
		return 0, fault.New(fault.NotFound, name, "no capture %q", name)
	}
	delete(f.sessions, name)
	return 1, nil
}

func (f *fakeCaptures) Status() (sessions, ended []spec.Session) {
	for _, s := range f.sessions {
		sessions = append(sessions, *s)
	}
	return sessions, nil
}

func (f *fakeCaptures) Capabilities() []spec.PortCapabilities { return nil }

// count has the session "lab" count packets of 100 bytes on its first interface.
func (f *fakeCaptures) count(packets uint64) {
	s := f.sessions["lab"]
	s.Packets, s.Bytes = s.Packets+packets, s.Bytes+100*packets
	s.Interfaces[0].Packets, s.Interfaces[0].Bytes = s.Packets, s.Bytes
}

// captureLife is a daemon's life on a folder, at a time of its own.
type captureLife struct {
	*keptCaptures
	fake *fakeCaptures
	log  bytes.Buffer
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func liveCaptures(t *testing.T, dir string, at time.Time, interfaces ...string) *captureLife {
	t.Helper()
	store, err := state.Open(dir)
	require.NoError(t, err)
	require.NoError(t, store.Interfaces.Put("vm-1", state.Interface{ID: "vm-1"}))
	now := func() time.Time { return at }
	l := &captureLife{fake: &fakeCaptures{interfaces: map[string]bool{}, sessions: map[string]*spec.Session{}, now: now}}
	for _, i := range interfaces {
		l.fake.interfaces[i] = true
	}
	l.keptCaptures = &keptCaptures{
		captures: l.fake, store: store, log: slog.New(slog.NewTextHandler(&l.log, nil)), now: now,
		records: map[string]state.Capture{}, restoreErrs: map[string]error{},
	}
	require.NoError(t, l.restore(t.Context()))
	return l
}

// kill is what a kill leaves: nothing more is kept.
func (l *captureLife) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, l.store.Close())
}

var request = spec.Request{
	Name: "lab", Sink: netip.MustParseAddr("fc00:99::1"), UDPSrcPort: 3000, UDPDstPort: 3010, Encap: wire.EncapUDP,
	Direction: spec.RX, Filter: "icmp", Targets: []spec.Target{{VF: "vm-1"}, {PF: 0}},
	Limits: spec.Limits{Duration: time.Hour, Packets: 100},
}

func TestCapturesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	l := liveCaptures(t, dir, noon, "vm-1", "pf0")
	_, err := l.Start(t.Context(), request)
	require.NoError(t, err)
	l.fake.count(30)
	require.NoError(t, l.Checkpoint())
	l.fake.count(1) // lost: nothing keeps it
	l.kill(t)

	l = liveCaptures(t, dir, noon.Add(10*time.Minute), "vm-1", "pf0")
	want := request
	want.Limits = spec.Limits{Duration: 50 * time.Minute, Packets: 70}
	require.Equal(t, []spec.Request{want}, l.fake.requests, "what is left of its limits")
	l.fake.count(5)
	sessions, _ := l.Status()
	require.Len(t, sessions, 1)
	s := sessions[0]
	assert.Equal(t, noon, s.StartedAt)
	assert.Equal(t, request.Limits, s.Limits)
	assert.EqualValues(t, 35, s.Packets)
	assert.EqualValues(t, 3500, s.Bytes)
	assert.EqualValues(t, 35, s.Interfaces[0].Packets)
	assert.Zero(t, s.Interfaces[1].Packets)
	const gap = "dpservice was restarted: nothing was captured from 2026-01-02 12:00:00 to 2026-01-02 12:10:00, for 10m0s"
	assert.Equal(t, []string{gap}, s.Warnings)
	require.NoError(t, l.Checkpoint())
	l.kill(t)

	l = liveCaptures(t, dir, noon.Add(20*time.Minute), "vm-1", "pf0")
	sessions, _ = l.Status()
	assert.EqualValues(t, 35, sessions[0].Packets)
	assert.Len(t, sessions[0].Warnings, 2)
	stopped, err := l.Stop("lab")
	require.NoError(t, err)
	assert.Equal(t, 1, stopped)
	l.kill(t)

	l = liveCaptures(t, dir, noon.Add(time.Hour), "vm-1", "pf0")
	assert.Empty(t, l.fake.requests)
	l.kill(t)
}

// A capture whose time or packets are over while dpservice does not run ends.
func TestCapturesEndByTheirLimits(t *testing.T) {
	tests := map[string]struct {
		packets uint64
		later   time.Duration
	}{
		"time": {0, time.Hour}, "packets": {100, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := liveCaptures(t, dir, noon, "vm-1", "pf0")
			_, err := l.Start(t.Context(), request)
			require.NoError(t, err)
			l.fake.count(tt.packets)
			require.NoError(t, l.Checkpoint())
			l.kill(t)
			for range 2 {
				l = liveCaptures(t, dir, noon.Add(tt.later), "vm-1", "pf0")
				assert.Empty(t, l.fake.requests)
				l.kill(t)
			}
		})
	}
}

// What has ended by itself, or was only planned, does not come back; what has lost an interface comes back without it.
func TestCapturesComeBackAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	l := liveCaptures(t, dir, noon, "vm-1", "pf0")
	_, err := l.Start(t.Context(), request)
	require.NoError(t, err)
	ended, planned := request, request
	ended.Name, planned.Name, planned.DryRun = "ended", "planned", true
	for _, r := range []spec.Request{ended, planned} {
		_, err := l.Start(t.Context(), r)
		require.NoError(t, err)
	}
	delete(l.fake.sessions, "ended")
	l.fake.sessions["lab"].Interfaces = l.fake.sessions["lab"].Interfaces[1:]
	require.NoError(t, l.Checkpoint())
	l.kill(t)

	l = liveCaptures(t, dir, noon, "pf0")
	require.Len(t, l.fake.requests, 1)
	assert.Equal(t, "lab", l.fake.requests[0].Name)
	assert.Equal(t, []spec.Target{{PF: 0}}, l.fake.requests[0].Targets)
	l.kill(t)
}

// A capture of an interface that is gone waits for it, unless it is stopped.
func TestCapturesWaitForTheirInterfaces(t *testing.T) {
	dir := t.TempDir()
	l := liveCaptures(t, dir, noon, "vm-1", "pf0")
	for _, name := range []string{"lab", "other"} {
		r := request
		r.Name, r.Drops = name, name == "other"
		_, err := l.Start(t.Context(), r)
		require.NoError(t, err)
	}
	l.kill(t)

	l = liveCaptures(t, dir, noon)
	assert.Empty(t, l.fake.requests)
	assert.Contains(t, l.log.String(), `"not restored" capture=lab`)
	waiting := l.Waiting()
	require.Len(t, waiting, 2)
	assert.Equal(t, "lab", waiting[0].Name)
	assert.Equal(t, spec.Waiting, waiting[0].State)
	assert.Equal(t, []spec.SessionInterface{
		{Target: spec.Target{VF: "vm-1"}, Direction: spec.RX}, {Target: spec.Target{PF: 0}, Direction: spec.RX},
	}, waiting[0].Interfaces)
	assert.Contains(t, waiting[1].Interfaces,
		spec.SessionInterface{Target: spec.Target{VF: "vm-1"}, Direction: spec.Drops})
	assert.Equal(t, []string{`not restored: no interface "vm-1"`}, waiting[0].Warnings)
	_, err := l.Start(t.Context(), request)
	assert.True(t, fault.Is(err, fault.AlreadyActive), "its place is not taken: %v", err)
	require.NoError(t, l.Checkpoint())
	_, err = l.Stop("other")
	require.NoError(t, err)
	assert.Len(t, l.Waiting(), 1)
	_, err = l.Stop("other")
	assert.True(t, fault.Is(err, fault.NotFound))
	l.kill(t)

	l = liveCaptures(t, dir, noon, "vm-1", "pf0")
	require.Len(t, l.fake.requests, 1)
	assert.Equal(t, "lab", l.fake.requests[0].Name)
	l.kill(t)

	l = liveCaptures(t, dir, noon)
	require.NoError(t, l.retry(t.Context()))
	assert.Empty(t, l.fake.requests)
	l.fake.interfaces = map[string]bool{"vm-1": true, "pf0": true}
	require.NoError(t, l.retry(t.Context()))
	require.NoError(t, l.retry(t.Context()))
	require.Len(t, l.fake.requests, 1, "it is restored once that is possible")
	assert.Empty(t, l.Waiting())
	sessions, _ := l.Status()
	assert.Len(t, sessions[0].Warnings, 2)
	l.kill(t)
}

// A capture that waits for an interface ends with the interface's deletion, whether it is seen at once, or only after a
// restart: another interface with its id is not captured.
func TestCapturesForgetDeletedInterfaces(t *testing.T) {
	for name, restarts := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := liveCaptures(t, dir, noon, "vm-1", "pf0")
			alone := request
			alone.Name, alone.Limits, alone.Targets = "alone", spec.Limits{}, []spec.Target{{VF: "vm-1"}}
			for _, r := range []spec.Request{request, alone} {
				_, err := l.Start(t.Context(), r)
				require.NoError(t, err)
			}
			l.kill(t)
			if restarts {
				store, err := state.Open(dir)
				require.NoError(t, err)
				_, err = store.Interfaces.Delete("vm-1")
				require.NoError(t, err)
				now := func() time.Time { return noon }
				l = &captureLife{fake: &fakeCaptures{interfaces: map[string]bool{}, sessions: map[string]*spec.Session{}, now: now}}
				l.keptCaptures = &keptCaptures{captures: l.fake, store: store, log: slog.New(slog.DiscardHandler), now: now,
					records: map[string]state.Capture{}, restoreErrs: map[string]error{}}
				require.NoError(t, l.restore(t.Context()))
			} else {
				l = liveCaptures(t, dir, noon)
				_, err := l.store.Interfaces.Delete("vm-1")
				require.NoError(t, err)
				require.NoError(t, l.Checkpoint())
			}
			l.fake.interfaces = map[string]bool{"vm-1": true, "pf0": true}
			require.NoError(t, l.retry(t.Context()))
			kept, err := l.store.Captures.All()
			require.NoError(t, err)
			require.Len(t, kept, 1)
			assert.Equal(t, "lab", kept[0].Name)
			assert.Equal(t, []state.Target{{PF: 0}}, kept[0].Targets)
			l.kill(t)
		})
	}
}

// A capture that cannot be kept is not started.
func TestCaptureThatCannotBeKept(t *testing.T) {
	l := liveCaptures(t, t.TempDir(), noon, "vm-1", "pf0")
	l.kill(t)
	_, err := l.Start(t.Context(), request)
	require.ErrorContains(t, err, "keep lab of captures")
	assert.Empty(t, l.fake.sessions)
}

// A capture that a client holds has nobody after a restart, and is not taken for a kept one of its name.
func TestHeldCapturesAreNotKept(t *testing.T) {
	dir := t.TempDir()
	l := liveCaptures(t, dir, noon, "vm-1", "pf0")
	held := request
	held.Held = true
	_, err := l.Start(t.Context(), held)
	require.NoError(t, err)
	l.fake.count(3)
	require.NoError(t, l.Checkpoint())
	sessions, _ := l.Status()
	require.Len(t, sessions, 1)
	assert.EqualValues(t, 3, sessions[0].Packets)
	l.kill(t)

	l = liveCaptures(t, dir, noon.Add(time.Minute), "vm-1", "pf0")
	assert.Empty(t, l.fake.requests)
	l.kill(t)
}

// What becomes of captures after a restart is written down: they go on, are over, or are stopped while they wait.
func TestRestoredCapturesAreAudited(t *testing.T) {
	dir := t.TempDir()
	l := liveCaptures(t, dir, noon, "vm-1", "pf0")
	for _, name := range []string{"lab", "waits"} {
		r := request
		r.Name = name
		if name == "waits" {
			r.Targets = []spec.Target{{VF: "vm-1"}}
			r.Limits = spec.Limits{}
		}
		_, err := l.Start(t.Context(), r)
		require.NoError(t, err)
	}
	l.fake.count(30)
	require.NoError(t, l.Checkpoint())
	l.kill(t)

	path := filepath.Join(dir, "audit.json")
	audited := func(at time.Time, interfaces ...string) *captureLife {
		l := liveCaptures(t, t.TempDir(), at, interfaces...)
		store, err := state.Open(dir)
		require.NoError(t, err)
		require.NoError(t, l.store.Close())
		l.store = store
		l.audit, err = audit.Open(path, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		l.vniOf = func(string) uint32 { return 100 }
		require.NoError(t, l.restore(t.Context()))
		return l
	}
	l = audited(noon.Add(time.Minute), "pf0", "vm-1")
	require.NoError(t, l.audit.Close())
	l.kill(t)
	l = audited(noon.Add(2*time.Hour), "pf0")
	_, err := l.Stop("waits")
	require.NoError(t, err)
	require.NoError(t, l.audit.Close())
	l.kill(t)

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var reported []string
	for line := range strings.Lines(string(text)) {
		var r struct {
			Message string `json:"msg"`
			Capture string `json:"capture"`
			Reason  string `json:"reason"`
			Packets uint64 `json:"packets"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		reported = append(reported, fmt.Sprint(r.Message, " ", r.Capture, " ", r.Reason, " ", r.Packets))
	}
	assert.Equal(t, []string{
		"capture restored lab  30", "capture restored waits  0", "capture ended lab over_at_start 30",
		"capture ended waits not_restored 0",
	}, reported)
}
