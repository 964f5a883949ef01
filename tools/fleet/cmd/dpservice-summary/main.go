// SPDX-License-Identifier: Apache-2.0

// Command dpservice-summary sums up in the status of each PacketCapture what the nodes report.
package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"dpservice/tools/fleet/internal/command"
	"dpservice/tools/fleet/summary"
)

func main() {
	var patience time.Duration
	var metrics, namespace string
	var elect bool
	cmd := &cobra.Command{
		Use:   "dpservice-summary",
		Short: "Sum up in the status of each PacketCapture what the nodes report",
		Long: `Sum up in the status of each PacketCapture what the nodes report, and keep a deleted one until its nodes have ended their parts.
Of several in a cluster one works, which they elect.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := ctrl.GetConfig()
			if err != nil {
				return err
			}
			options := command.ManagerOptions()
			options.Metrics = metricsserver.Options{BindAddress: metrics}
			options.LeaderElection, options.LeaderElectionID = elect, "dpservice-summary"
			options.LeaderElectionNamespace = namespace
			m, err := ctrl.NewManager(config, options)
			if err != nil {
				return err
			}
			if err := summary.Add(m, patience); err != nil {
				return err
			}
			return m.Start(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&patience, "patience", summary.Patience, "how long a deleted capture waits for its nodes")
	flags.StringVar(&metrics, "metrics", "0", "address at which metrics are shown; 0 shows none")
	flags.BoolVar(&elect, "leader-elect", true, "elect the one that works; without it there must be only one")
	flags.StringVar(&namespace, "namespace", "dpservice", "namespace of the election's lease")
	os.Exit(command.Run(cmd))
}
