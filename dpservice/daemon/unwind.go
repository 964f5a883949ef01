// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// patience is how long a step may take before the log names it.
const patience = time.Second

// unwinder holds the steps that undo what was done.
type unwinder []undo

type undo struct {
	what string
	do   func() error
}

func (u *unwinder) add(what string, do func() error) { *u = append(*u, undo{what, do}) }

// run undoes everything, the last step first. It goes on after an error.
func (u *unwinder) run(log *slog.Logger) error {
	var errs []error
	for _, step := range slices.Backward(*u) {
		late := time.AfterFunc(patience, func() { log.Warn("shutdown is slow", "step", step.what) })
		if err := step.do(); err != nil {
			errs = append(errs, fmt.Errorf("cannot %s: %w", step.what, err))
		}
		late.Stop()
	}
	*u = nil
	return errors.Join(errs...)
}

// tasks are goroutines that can be waited for.
type tasks struct{ wg sync.WaitGroup }

func (t *tasks) start(do func()) { t.wg.Go(do) }
func (t *tasks) wait()           { t.wg.Wait() }
