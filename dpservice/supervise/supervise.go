// SPDX-License-Identifier: Apache-2.0

// Package supervise reports the state of dpservice to systemd: that it is ready, that it still works, that it stops.
// Without systemd it does nothing.
package supervise

import (
	"context"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

const (
	// readyPause is the time between two probes of a daemon that is not ready yet.
	readyPause = 50 * time.Millisecond
	// feedsPerWatchdog is how often the watchdog is fed within its timeout: one probe may fail, or be late.
	feedsPerWatchdog = 3
)

// Supervisor feeds systemd's watchdog while a probe succeeds.
type Supervisor struct {
	probe func(ctx context.Context) error
	log   *slog.Logger
}

// New returns a Supervisor. The probe returns nil if the daemon works: its control side and its workers answer. The
// probe must be safe for concurrent use with the rest of the daemon.
func New(probe func(ctx context.Context) error, log *slog.Logger) *Supervisor {
	return &Supervisor{probe, log}
}

// Run reports to systemd that the daemon is ready when the probe succeeds for the first time. It then feeds the
// watchdog after each successful probe. When ctx is done, it reports that the daemon stops. Run returns at once if
// there is no service manager.
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

// Reloading reports to systemd that the daemon reloads its configuration while do runs. It may be called concurrently
// with Run.
func (s *Supervisor) Reloading(do func()) {
	s.notify(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
	do()
	s.notify(systemd.SdNotifyReady)
}

// waitReady waits until the probe succeeds. It returns false if ctx is done before.
func (s *Supervisor) waitReady(ctx context.Context) bool {
	for s.probe(ctx) != nil {
		if !pause(ctx, readyPause) {
			return false
		}
	}
	return true
}

// feed feeds the watchdog until ctx is done. Without a watchdog it only waits.
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

// notify sends a state to the service manager, and reports whether there is one.
func (s *Supervisor) notify(state string) bool {
	sent, err := systemd.SdNotify(false, state)
	if err != nil {
		s.log.Warn("cannot notify systemd", "state", state, "err", err)
	}
	return sent || err != nil
}

// pause waits for d. It returns false if ctx is done before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
