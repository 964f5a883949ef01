// SPDX-License-Identifier: Apache-2.0

// Command dpctl controls a dpservice over its socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"dpservice/rpc/client"
)

//go:generate sh -c "go run . docs > ../../docs/dpctl.md"

// The exit codes.
const (
	exitDone     = 0
	exitRefused  = 1 // the daemon rejected the request, did not answer, or the answer could not be shown
	exitUsage    = 2
	exitNoDaemon = 3
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes a command line and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "dpctl: %v\n", err)
	code := exitCode(err)
	switch code {
	case exitUsage:
		fmt.Fprintf(stderr, "Run '%s --help' for its usage.\n", cmd.CommandPath())
	case exitNoDaemon:
		fmt.Fprintln(stderr, "Is dpservice running? Another socket is chosen by --socket or DPSERVICE_SOCKET.")
	}
	return code
}

// failure is an error that is not caused by a wrong command line.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// exitCode returns the exit code for an error. An error that is not a failure comes from the parser of the command
// line.
func exitCode(err error) int {
	var f failure
	switch {
	case errors.Is(err, client.ErrNoDaemon):
		return exitNoDaemon
	case errors.As(err, &f):
		return exitRefused
	default:
		return exitUsage
	}
}
