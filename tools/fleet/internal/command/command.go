// SPDX-License-Identifier: Apache-2.0

// Package command has what the commands of this module have in common.
package command

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"

	"dpservice/tools/fleet/api/v1alpha1"
)

// Scheme returns the types of all resources that the commands use.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}

// ManagerOptions returns what the managers of all commands have in common.
func ManagerOptions() ctrl.Options { return ctrl.Options{Scheme: Scheme()} }

// Run runs a command until it ends, or is told to end by SIGINT or SIGTERM, and returns its exit code: 0, or 1 if it
// has failed, or 2 if it was used wrongly. A second signal ends the process.
func Run(cmd *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	slog.SetDefault(log)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	cmd.SilenceErrors = true
	used := false // the command was used rightly, and has begun
	for _, c := range append(cmd.Commands(), cmd) {
		if run := c.RunE; run != nil {
			c.RunE = func(c *cobra.Command, args []string) error {
				used, c.SilenceUsage = true, true
				return run(c, args)
			}
		}
	}
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
		if !used {
			return 2
		}
		return 1
	}
	return 0
}
