// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"log/slog"
	"time"

	"dpservice/capture/spec"
	"dpservice/dpservice/access"
)

// Further reasons why a capture is over, or no longer goes on in this process, besides those of spec.EndReason.
const (
	DaemonEnded = "daemon_ended"  // it goes on after the next start if there is a state
	NotRestored = "not_restored"  // it was stopped before it could be restored after a restart
	OverAtStart = "over_at_start" // it reached a limit while dpservice did not run
)

// target is what a capture copies, as a record has it.
type target struct {
	Interface string `json:"interface,omitempty"`
	VNI       uint32 `json:"vni,omitempty"`
	PF        *int   `json:"pf,omitempty"`
	Direction string `json:"direction,omitempty"`
	Packets   uint64 `json:"packets,omitempty"`
	Bytes     uint64 `json:"bytes,omitempty"`
}

func newTarget(t access.Target) target {
	if t.Interface == "" {
		return target{PF: &t.PF}
	}
	return target{Interface: t.Interface, VNI: t.VNI}
}

// named is a capture that a request names, as a record has it.
type named struct {
	Name    string   `json:"name"`
	Sink    string   `json:"sink,omitempty"`
	Targets []target `json:"targets"`
}

func captures(all []access.Capture) []named {
	list := make([]named, len(all))
	for i, c := range all {
		list[i] = named{Name: c.Name, Targets: []target{}}
		if c.Sink.IsValid() {
			list[i].Sink = c.Sink.String()
		}
		for _, t := range c.Targets {
			list[i].Targets = append(list[i].Targets, newTarget(t))
		}
	}
	return list
}

// CaptureEnded reports a capture that has ended, with its totals. vni finds the network of an interface: 0 if it is
// gone.
func (l *Log) CaptureEnded(s spec.Session, reason string, vni func(id string) uint32) {
	if l == nil {
		return
	}
	ended := s.EndedAt
	if ended.IsZero() {
		ended = time.Now()
	}
	attrs := append(sessionAttrs(s, vni), slog.Time("ended_at", ended), slog.String("reason", reason),
		slog.Float64("seconds", ended.Sub(s.StartedAt).Seconds()))
	l.note(slog.LevelInfo, "capture ended", attrs...)
}

// CaptureRestored reports a capture that goes on after a restart, with what it had copied before.
func (l *Log) CaptureRestored(s spec.Session, vni func(id string) uint32) {
	if l == nil {
		return
	}
	l.note(slog.LevelInfo, "capture restored", sessionAttrs(s, vni)...)
}

func sessionAttrs(s spec.Session, vni func(id string) uint32) []slog.Attr {
	targets := []target{}
	for _, i := range s.Interfaces {
		t := newTarget(access.Target{Interface: i.VF, PF: i.PF})
		if i.VF != "" {
			t.VNI = vni(i.VF)
		}
		t.Direction, t.Packets, t.Bytes = string(i.Direction), i.Packets, i.Bytes
		targets = append(targets, t)
	}
	return []slog.Attr{
		slog.String("capture", s.Name), slog.String("sink", s.Sink.String()), slog.Int("udp_dst_port", int(s.UDPDstPort)),
		slog.String("encap", string(s.Encap)), slog.String("filter", s.Filter),
		slog.Group("limits", "duration", s.Limits.Duration.String(), "packets", s.Limits.Packets, "bytes", s.Limits.Bytes,
			"packets_per_second", s.Limits.PacketsPerSecond),
		slog.Any("targets", targets), slog.Uint64("packets", s.Packets), slog.Uint64("bytes", s.Bytes),
		slog.Time("started_at", s.StartedAt), slog.Any("warnings", s.Warnings),
	}
}
