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

// home moves the cursor of a terminal to the first line and clears the screen.
const home = "\x1b[H\x1b[J"

// repeat calls show every interval until it is interrupted. On a terminal each output replaces the previous one.
func repeat(cmd *cobra.Command, interval time.Duration, show func() error) error {
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
			return ignoreInterrupt(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

// ignoreInterrupt drops an error that was caused by an interrupt.
func ignoreInterrupt(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
