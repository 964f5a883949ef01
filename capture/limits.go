// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dpservice/capture/spec"
)

// How often limits are looked at, and how long to wait after a session could not be ended.
const (
	limitPeriod = 100 * time.Millisecond
	retryPeriod = time.Second
)

// Run ends sessions at their limits, and those whose clients are gone, until ctx is done.
func (m *Manager) Run(ctx context.Context) {
	ticker := time.NewTicker(limitPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			m.enforceLimits(now)
		}
	}
}

// enforceLimits ends the sessions that have reached a limit, or whose client is gone. One that cannot be ended goes on,
// says so in its warnings, and is tried again.
func (m *Manager) enforceLimits(now time.Time) {
	m.mu.Lock()
	defer m.unlock()
	for _, s := range slices.Clone(m.sessions) {
		if s.changing || s.state != spec.Active || now.Before(s.retryAt) {
			continue
		}
		reason := s.reached(now)
		if reason == "" {
			continue
		}
		m.beginChange()
		if err := s.end(reason, "cannot end the capture at its limit"); err != nil {
			s.overdue = fmt.Sprintf("its limit is reached (%s), but it goes on: %v", reason, err)
			s.retryAt = now.Add(retryPeriod)
			continue
		}
		m.remember(s)
	}
}

// reached is the limit that a session has reached, if any. The life of the client that holds it is one.
func (s *session) reached(now time.Time) spec.EndReason {
	select {
	case <-s.holder:
		return spec.ClientGone
	default:
	}
	l := s.request.Limits
	if l.Duration > 0 && now.Sub(s.startedAt) >= l.Duration {
		return spec.DurationReached
	}
	if l.Packets == 0 && l.Bytes == 0 && l.PacketsPerSecond == 0 {
		return ""
	}
	s.readCounters()
	c := s.copied()
	switch {
	case l.Packets > 0 && c.Packets >= l.Packets:
		return spec.PacketsReached
	case l.Bytes > 0 && c.Bytes >= l.Bytes:
		return spec.BytesReached
	case l.PacketsPerSecond > 0 && s.tooFast(now, c.Packets):
		return spec.TooFast
	}
	return ""
}

// ratePeriod is the shortest time over which a rate is measured.
const ratePeriod = time.Second

// tooFast reports whether the session has copied more than its rate allows since the last measurement. What a counter
// shows can be of up to CounterLag earlier, so so much more time is allowed.
func (s *session) tooFast(now time.Time, packets uint64) bool {
	if s.measuredAt.IsZero() {
		s.measuredAt = s.startedAt
	}
	elapsed := now.Sub(s.measuredAt)
	if elapsed < ratePeriod {
		return false
	}
	allowed := float64(s.request.Limits.PacketsPerSecond) * (elapsed + s.deps.CounterLag).Seconds()
	copied := float64(packets) - float64(s.measured)
	s.measuredAt, s.measured = now, packets
	return copied > allowed
}
