// SPDX-License-Identifier: Apache-2.0

// Command dpservice is the daemon: it forwards guests' packets, has the NIC do so by itself, and captures them there.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"dpservice/cgo/eal"
	"dpservice/cgo/ethdev"
	"dpservice/dpservice/check"
	"dpservice/dpservice/config"
	"dpservice/dpservice/daemon"
	"dpservice/dpservice/manual"
	"dpservice/dpservice/version"
	"dpservice/rpc/api"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defaults := config.Default()
	defaults.Socket = api.DefaultSocket
	code := exitUsage // until the command line and the configuration are understood
	cmd := &cobra.Command{
		Use:           "dpservice",
		Short:         "Forward guests' packets in software and in the NIC, and capture them there",
		Long:          "Forward guests' packets in software and in the NIC, and capture them there.\n\nEach flag but --config overrides a value of the file, and so does the variable\nof the environment with its name: DPSERVICE_SOCKET for --socket.",
		Example:       "  dpservice --config /etc/dpservice/dpservice.yaml\n  DPSERVICE_OFFLOAD=false dpservice --log-level debug",
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(defaults, cmd.Flags(), os.Environ())
			if err != nil {
				return err
			}
			code = exitFailed
			reload := daemon.Reload{
				Requests: hangups,
				Load:     func() (config.Config, error) { return config.Load(defaults, cmd.Flags(), os.Environ()) },
				Level:    new(slog.LevelVar),
			}
			reload.Level.Set(cfg.LogLevel)
			slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: reload.Level})))
			return daemon.Run(ctx, cfg, slog.Default(), reload)
		},
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	config.AddFlags(cmd.Flags())
	for _, sub := range []*cobra.Command{check.Command(defaults, eal.Version(), ethdev.MaxPorts), manual.Command("8")} {
		sub.PreRun = func(*cobra.Command, []string) { code = exitFailed }
		cmd.AddCommand(sub)
	}
	if err := cmd.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "dpservice:", err)
		return code
	}
	return 0
}
