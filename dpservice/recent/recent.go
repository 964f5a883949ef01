// SPDX-License-Identifier: Apache-2.0

// Package recent keeps the last lines of the daemon's log, for reports of faults.
package recent

import (
	"slices"
	"strings"
	"sync"
)

// Lines keeps the last lines that were written to it. It is safe for concurrent use.
type Lines struct {
	max int

	mu    sync.Mutex
	lines []string
	bytes int
}

// New returns Lines of at most max bytes together.
func New(max int) *Lines { return &Lines{max: max} }

// Write implements io.Writer. Each call is a line, as a slog.TextHandler writes it.
func (l *Lines) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line[:min(len(line), l.max)]), "\n")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, text)
	l.bytes += len(text)
	old := 0
	for ; l.bytes > l.max; old++ {
		l.bytes -= len(l.lines[old])
	}
	l.lines = slices.Delete(l.lines, 0, old)
	return len(line), nil
}

// All returns the lines, the oldest first.
func (l *Lines) All() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}
