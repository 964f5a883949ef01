// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"log/slog"

	"dpservice/cgo/eal"
	"dpservice/cgo/ethdev"
	"dpservice/dpservice/check"
	"dpservice/dpservice/recent"
	"dpservice/dpservice/status"
)

// recentBytes is how much of the log is kept for reports.
const recentBytes = 256 << 10

// remembering returns a log that also writes to lines, from the same level on.
func remembering(log *slog.Logger, lines *recent.Lines, level *slog.LevelVar) *slog.Logger {
	options := &slog.HandlerOptions{}
	if level != nil {
		options.Level = level
	}
	return slog.New(slog.NewMultiHandler(log.Handler(), slog.NewTextHandler(lines, options)))
}

// Report implements server.System.
func (s system) Report(ctx context.Context) (status.Report, error) {
	s.d.checking.Lock()
	defer s.d.checking.Unlock()
	if err := ctx.Err(); err != nil { // the client did not wait
		return status.Report{}, err
	}
	text, err := s.d.cfg.Text()
	if err != nil {
		return status.Report{}, err
	}
	r := status.Report{Configuration: text, Log: s.d.recent.All()}
	for _, f := range check.Examine(ctx, check.ThisMachine(eal.Version(), ethdev.MaxPorts), s.d.cfg, nil) {
		r.Check = append(r.Check, status.Finding{Level: string(f.Level), Subject: f.Subject, Text: f.Text, Fix: f.Fix})
	}
	return r, nil
}
