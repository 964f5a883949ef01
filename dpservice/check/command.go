// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"dpservice/dpservice/access"
	"dpservice/dpservice/config"
)

// patience is how long a program that the checks run may take.
const patience = 10 * time.Second

// Command returns the command `check`, which checks this machine and fails if dpservice would fail on it. defaults is
// the configuration without a file, maxPorts the largest number of ports of this DPDK.
func Command(defaults config.Config, dpdk string, maxPorts int) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether this machine is ready for dpservice, and what to do if not",
		Long: `Say whether this machine is ready for dpservice, line by line, and what to do if not.

It looks at the configuration, the users and groups of its rules of access, known faults of versions, CPUs, hugepages, IOMMU, the card with its firmware's settings,
switchdev mode, VFs, the kernel's interfaces, and the room for ports. It changes nothing. Run it as root, so that it can
read the card's settings. It fails if a line begins with "failed".`,
		Example: "  dpservice check\n  dpservice check --config ./dpservice.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(defaults, cmd.Flags(), os.Environ())
			if err != nil {
				cfg = defaults
			}
			findings := Examine(cmd.Context(), ThisMachine(dpdk, maxPorts), cfg, err)
			if err := Write(cmd.OutOrStdout(), findings); err != nil {
				return err
			}
			if n := Count(findings, Failed); n > 0 {
				return fmt.Errorf("this machine is not ready: %d of %d checks failed", n, len(findings))
			}
			return nil
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

// ThisMachine is the machine that the program runs on, with this version of DPDK and its largest number of ports.
func ThisMachine(dpdk string, maxPorts int) Machine {
	return Machine{Root: os.DirFS("/"), DPDK: dpdk, MaxPorts: maxPorts, Names: access.SystemNames(), Run: run}
}

func run(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	return string(out), err
}
