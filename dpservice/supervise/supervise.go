// SPDX-License-Identifier: Apache-2.0

// Package supervise tells systemd how dpservice is: when it is ready, that it still lives, that it ends. Without
// systemd it does nothing.
package supervise

import (
	"context"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

const (
	// readyPause is between two probes of a daemon that is not ready yet.
	readyPause = 50 * time.Millisecond
	// feedsPerWatchdog is how often the watchdog is fed in the time after which it bites: one probe may fail, or be late.
	feedsPerWatchdog = 3
)

// Supervisor feeds systemd's watchdog while a probe succeeds.
type Supervisor struct {
	probe func(ctx context.Context) error
	log   *slog.Logger
}

// New returns a Supervisor. The probe returns nil if the daemon does what it is for: its control answers, and its
// workers do. It may be called concurrently with everything else.
func New(probe func(ctx context.Context) error, log *slog.Logger) *Supervisor {
	return &Supervisor{probe, log}
}

// Run tells systemd that the daemon is ready once the probe succeeds, then feeds the watchdog each time that it does,
// until ctx is done; then it tells that the daemon ends. It returns at once if no service manager wants to know.
func (s *Supervisor) Run(ctx context.Context) {
	if !s.notify("STATUS=starting") {
		return
	}
	if !s.waitReady(ctx) {
		return
	}
	s.notify(systemd.SdNotifyReady + "\n" + "STATUS=running")
	s.feed(ctx)
	s.notify(systemd.SdNotifyStopping)
}

// Reloading tells systemd that the daemon takes another configuration while do runs. It may be called beside Run.
func (s *Supervisor) Reloading(do func()) {
	s.notify(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
	do()
	s.notify(systemd.SdNotifyReady)
}

// waitReady reports whether the probe has succeeded; else ctx is done.
func (s *Supervisor) waitReady(ctx context.Context) bool {
	for s.probe(ctx) != nil {
		if !pause(ctx, readyPause) {
			return false
		}
	}
	return true
}

// feed feeds the watchdog, if there is one, until ctx is done.
func (s *Supervisor) feed(ctx context.Context) {
	timeout, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("no watchdog: its time cannot be read", "err", err)
	}
	if timeout == 0 {
		<-ctx.Done()
		return
	}
	healthy := true
	for pause(ctx, timeout/feedsPerWatchdog) {
		err := s.probe(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.Warn("the watchdog is not fed: a part of dpservice does not answer", "err", err)
			s.notify("STATUS=does not answer: " + err.Error())
		case !healthy:
			s.log.Info("the watchdog is fed again")
			s.notify(systemd.SdNotifyWatchdog + "\n" + "STATUS=running")
		default:
			s.notify(systemd.SdNotifyWatchdog)
		}
		healthy = err == nil
	}
}

// notify sends a state. It reports whether there is a service manager.
func (s *Supervisor) notify(state string) bool {
	sent, err := systemd.SdNotify(false, state)
	if err != nil {
		s.log.Warn("systemd cannot be told", "state", state, "err", err)
	}
	return sent || err != nil
}

// pause reports whether d has gone by; else ctx is done.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
