// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dpservice/dpservice/manual"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
)

// app holds the global flags, which all commands share.
type app struct {
	socket  string
	output  string
	timeout time.Duration
}

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "dpctl",
		Short: "Control a dpservice",
		Long: `dpctl controls a dpservice over its socket.

Exit codes: 0 done; 1 the daemon said no, or did not answer; 2 bad usage; 3 no daemon at the socket.`,
		Example: `  dpctl interface create vm-1 --device=net_eswitch0_representor_vf0 --vni=100 --ipv4=10.0.0.1 --ipv6=fd00::1
  dpctl capture start --sink-node-ip=fc00:2::1 --udp-src-port=3000 --udp-dst-port=3010 --vf=vm-1 --pf=0
  dpctl -o json flow list --offloaded`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.check() },
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", "", "the daemon's socket (default $DPSERVICE_SOCKET or "+api.DefaultSocket+")")
	flags.StringVarP(&a.output, "output", "o", "table", "output format: "+strings.Join(formats, ", "))
	flags.DurationVar(&a.timeout, "timeout", 30*time.Second, "how long to wait for the daemon's answer")
	fixed(root, "output", formats...)
	root.AddCommand(
		a.captureCommand(), a.interfaceCommand(), a.routeCommand(), a.flowCommand(), a.ruleCommand(),
		a.portCommand(), a.graphCommand(), a.traceCommand(), a.systemCommand(), a.topCommand(), a.rpcCommand(),
		a.extcapCommand(),
		completionCommand(), docsCommand(), manual.Command("1"),
	)
	needCommand(root)
	return root
}

// needCommand makes every group of commands fail if it is called without a valid command. By default, cobra would print
// the help and succeed.
func needCommand(cmd *cobra.Command) {
	for _, child := range cmd.Commands() {
		needCommand(child)
	}
	if cmd.Runnable() {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = noCommand
}

// noCommand returns the error of a group that is called without a valid command.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0])
	}
	return fmt.Errorf("%s needs a command", cmd.CommandPath())
}

// check checks the global flags and sets their defaults.
func (a *app) check() error {
	if !slices.Contains(formats, a.output) {
		return fmt.Errorf("no output format %q: want %s", a.output, strings.Join(formats, ", "))
	}
	if a.timeout <= 0 {
		return errors.New("--timeout must be more than 0")
	}
	a.socket = cmp.Or(a.socket, os.Getenv("DPSERVICE_SOCKET"), api.DefaultSocket)
	return nil
}

// call calls a method and returns its result.
func (a *app) call(ctx context.Context, m api.AnyMethod, params any) (result json.RawMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if err := client.CallAny(ctx, a.socket, m, params, &result); err != nil {
		return nil, failure{explain(m, err)}
	}
	return result, nil
}

// explain adds to the message of an error from the daemon its data, and what to do next.
func explain(m api.AnyMethod, err error) error {
	var refused *client.Error
	if !errors.As(err, &refused) {
		return err
	}
	var text strings.Builder
	text.WriteString(refused.Message)
	data := refused.Data
	if data.Reason != "" {
		fmt.Fprintf(&text, " (%s)", data.Reason)
	}
	for _, line := range []struct{ name, value string }{
		{"interface", data.Interface}, {"rule", data.Rule}, {"rte_flow_error", data.RTEFlowError},
		{"missing below access in the configuration", data.MissingRule},
	} {
		if line.value != "" {
			fmt.Fprintf(&text, "\n  %s: %s", line.name, line.value)
		}
	}
	if data.Errno != 0 {
		fmt.Fprintf(&text, "\n  errno: %d", data.Errno)
	}
	if step := nextStep(m, data.Reason); step != "" {
		fmt.Fprintf(&text, "\n  next: %s", step)
	}
	return errors.New(text.String())
}
