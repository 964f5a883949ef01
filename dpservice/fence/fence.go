// SPDX-License-Identifier: Apache-2.0

// Package fence keeps a panic in one part from ending the daemon. Parts that read input from guests, the wire or
// clients run inside a Fence: if one panics, only the present frame, request or round is lost.
package fence

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"time"
)

// logPeriod is the shortest time between two log entries about a part: somebody may cause its panic again and again.
const logPeriod = time.Minute

// pause is how long a part waits after a panic before it runs again.
const pause = time.Second

// Fence counts panics by part. It is safe for concurrent use.
type Fence struct {
	log *slog.Logger

	mu     sync.Mutex
	panics map[string]uint64
	logged map[string]time.Time
}

// New returns a Fence without panics.
func New(log *slog.Logger) *Fence {
	return &Fence{log: log, panics: map[string]uint64{}, logged: map[string]time.Time{}}
}

// Do calls do for a part. A panic becomes the error.
func (f *Fence) Do(part string, do func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f.note(part, p, debug.Stack())
			err = fmt.Errorf("%s panicked: %v", part, p)
		}
	}()
	do()
	return nil
}

// Run calls run for a part, again after a panic, until it returns or ctx is done.
func (f *Fence) Run(ctx context.Context, part string, run func(context.Context)) {
	for f.Do(part, func() { run(ctx) }) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (f *Fence) note(part string, p any, stack []byte) {
	f.mu.Lock()
	f.panics[part]++
	count := f.panics[part]
	last, before := f.logged[part]
	now := time.Now()
	log := !before || now.Sub(last) >= logPeriod
	if log {
		f.logged[part] = now
	}
	f.mu.Unlock()
	if log {
		f.log.Error("a part of dpservice panicked, and goes on", "part", part, "panic", p, "count", count, "stack",
			string(stack))
	}
}

// Panics returns how often each part has panicked; parts that have not are missing.
func (f *Fence) Panics() map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.panics)
}
