// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"slices"

	"dpservice/capture/spec"
)

// view is the session as status shows it, while copies leave by an uplink.
func (s *session) view(u Uplink) spec.Session {
	v := s.viewAlone()
	v.Warnings = append(v.Warnings, s.unread...)
	if s.state == spec.Active {
		v.Warnings = append(v.Warnings, u.warnings()...)
	}
	return v
}

// viewAlone is the session as history shows it.
func (s *session) viewAlone() spec.Session {
	v := spec.Session{
		Name:       s.request.Name,
		State:      s.state,
		StartedAt:  s.startedAt,
		EndedAt:    s.endedAt,
		EndReason:  s.reason,
		Sink:       s.request.Sink,
		UDPSrcPort: s.request.UDPSrcPort,
		UDPDstPort: s.request.UDPDstPort,
		Encap:      s.request.Encap,
		Direction:  s.request.Direction,
		Drops:      s.request.Drops,
		Filter:     s.request.Filter,
		Limits:     s.request.Limits,
		Held:       s.request.Held,
		Warnings:   slices.Clone(s.warnings),
	}
	for _, w := range []string{s.stale, s.broken, s.overdue} {
		if w != "" {
			v.Warnings = append(v.Warnings, w)
		}
	}
	for _, m := range s.mirrors {
		v.Interfaces = append(v.Interfaces, m.view(s.request.Filter != ""))
		v.Warnings = append(v.Warnings, m.missedWarnings()...)
	}
	total := s.copied()
	v.Packets, v.Bytes = total.Packets, total.Bytes
	return v
}

// warnings say why copies that leave now do not reach the sink.
func (u Uplink) warnings() (warnings []string) {
	if u.LinkDown {
		warnings = append(warnings, "the link of PF0 is down: copies leave by it alone, and are lost")
	}
	if !u.resolved() {
		warnings = append(warnings, "the router behind PF0 is not known any more: copies go to its last MAC")
	}
	return warnings
}
