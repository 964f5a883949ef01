// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pollInterval is the time between two calls of cond by Until.
const pollInterval = 20 * time.Millisecond

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks an error that does not go away by waiting; Until returns it at once.
func Permanent(err error) error { return permanentError{err} }

// Until calls cond until it returns nil. If ctx ends first, Until returns the last error of cond.
func Until(ctx context.Context, cond func() error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := cond()
		var permanent permanentError
		if err == nil || errors.As(err, &permanent) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w (%w)", err, ctx.Err())
		case <-tick.C:
		}
	}
}
