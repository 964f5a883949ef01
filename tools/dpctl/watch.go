// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// home moves a terminal's cursor to its first line, and clears what is below.
const home = "\x1b[H\x1b[J"

// again shows something every interval until it is interrupted, on a terminal always in the same place.
func again(cmd *cobra.Command, interval time.Duration, show func() error) error {
	if interval <= 0 {
		return errors.New("--interval must be more than 0")
	}
	ctx, cancel := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	cmd.SetContext(ctx)
	for {
		if isTerminal(cmd.OutOrStdout()) {
			fmt.Fprint(cmd.OutOrStdout(), home)
		}
		if err := show(); err != nil {
			return unlessEnded(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

// unlessEnded leaves out an error that comes of having been interrupted.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
