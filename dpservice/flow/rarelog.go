// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"log/slog"
	"sync"
	"time"
)

// rareLog limits how often each message is logged, and counts the skipped ones: guests must not be able to fill the
// log.
type rareLog struct {
	log   *slog.Logger
	every time.Duration

	mu    sync.Mutex
	kinds map[string]*kind
}

type kind struct {
	last    time.Time
	skipped int
}

func (l *rareLog) warn(msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds == nil {
		l.kinds = map[string]*kind{}
	}
	k := l.kinds[msg]
	if k == nil {
		k = &kind{}
		l.kinds[msg] = k
	}
	if now := time.Now(); now.Sub(k.last) >= l.every {
		l.log.Warn(msg, append(args, "skipped", k.skipped)...)
		*k = kind{last: now}
		return
	}
	k.skipped++
}
