// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// CloseOnSignal makes SIGINT and SIGTERM close all labs and end the process with 130. The returned function turns
// that off.
func CloseOnSignal() (stop func()) {
	signals := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case <-done:
		case s := <-signals:
			fmt.Fprintf(os.Stderr, "%s: cleaning up\n", s)
			if err := CloseAll(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(130)
		}
	}()
	return func() {
		signal.Stop(signals)
		done <- struct{}{} // after a signal nobody receives: this blocks until the process ends
	}
}

// Main is a TestMain for packages that use labs. It removes the labs of killed runs, closes all labs on Ctrl-C, and
// fails a run that leaves anything behind. m is a *testing.M.
func Main(m interface{ Run() int }) int {
	if err := Sweep(); err != nil {
		fmt.Fprintln(os.Stderr, "sweeping the labs of killed runs:", err)
		return 1
	}
	defer CloseOnSignal()()
	code := m.Run()
	leaks, err := Leaks()
	if err != nil {
		fmt.Fprintln(os.Stderr, "looking for leaks:", err)
		return 1
	}
	for _, leak := range leaks {
		fmt.Fprintln(os.Stderr, "left behind:", leak)
	}
	if len(leaks) > 0 {
		return 1
	}
	return code
}
