// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
	"dpservice/wire"
)

// captureNames makes a command for sinks that cannot ask the daemon: what it prints is for --name of capture receive,
// and for Wireshark's dissector.
func (a *app) captureNames() *cobra.Command {
	return &cobra.Command{
		Use:   "names",
		Short: "Name the labels of captured interfaces, for a sink without the daemon",
		Long: `Print a line NODE/LABEL=NAME for each interface that is captured, or was in a capture that has ended: what the copies at a
sink say of where they come from, and what it is called. The label is the one of what the guest sends.`,
		Example: `  dpctl capture names
  ssh hv1 dpctl capture names >names        # for Wireshark: preferences, dpservice, Names
  dpctl capture receive --udp-dst-port=3010 -w test.pcapng --name="$(ssh hv1 dpctl capture names | paste -sd,)"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := answer(cmd.Context(), a, api.MethodSystemInfo, api.None{})
			if err != nil {
				return err
			}
			status, err := answer(cmd.Context(), a, api.MethodCaptureStatus, api.None{})
			if err != nil {
				return err
			}
			return writeNames(cmd.OutOrStdout(), info.Underlay.IP, append(status.Sessions, status.History...))
		},
	}
}

// writeNames writes the names of the interfaces of sessions, of which the first one knows best.
func writeNames(w io.Writer, node string, sessions []api.CaptureSession) error {
	var seen []wire.Label
	for _, s := range sessions {
		for _, i := range s.Interfaces {
			label := wire.Label(i.Label) &^ wire.LabelTX
			if sent, _, is := label.Dropped(); is {
				label = sent
			}
			if slices.Contains(seen, label) {
				continue
			}
			seen = append(seen, label)
			if _, err := fmt.Fprintf(w, "%s/%d=%s\n", node, label, targetName(i.CaptureTarget)); err != nil {
				return err
			}
		}
	}
	return nil
}
