// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dpservice/rpc/api"
)

func (a *app) flowExplain() *cobra.Command {
	var p api.FlowExplainParams
	var icmpType uint8
	cmd := &cobra.Command{
		Use:   "explain [ID]",
		Short: "Say what would be done with a packet now, and why",
		Long: `Say what would be done with a packet now, and why: with the next one of the flow with an ID, or with one that the guest of an
interface sends, or gets from the wire, also if none was ever seen. The packet graph is asked, by the same steps as for a
packet; nothing is sent and nothing changes.

It tells of the interface, who may send the packet, the route, the uplink, the flow, the NIC's rule or why there is none, and
the rules of captures that the packet meets, with their counters. --src, or with --origin=wire --dst, is the interface's own
address if it is left out.`,
		Example: `  dpctl flow explain --interface=vm-1 --proto=tcp --dst=10.0.0.9 --dst-port=443
  dpctl flow explain --interface=vm-1 --origin=wire --proto=icmp --src=10.0.1.5
  dpctl flow explain 4294967299`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.ICMPType = given(cmd, "icmp-type", &icmpType)
			return command(a, api.MethodFlowExplain, func(args []string) (api.FlowExplainParams, error) {
				return explained(p, args, cmd.LocalNonPersistentFlags())
			}, explanationView)(cmd, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.Interface, "interface", "", "the guest's interface that sends or gets the packet, by its id")
	flags.StringVar(&p.Origin, "origin", "guest", "where the packet comes from: guest or wire")
	flags.StringVar(&p.Peer, "peer", "", "with --origin=wire: the outer source address (default the one that may send it)")
	flags.StringVar(&p.Src, "src", "", "the source address")
	flags.StringVar(&p.Dst, "dst", "", "the destination address")
	flags.StringVar(&p.Proto, "proto", "", "the protocol: tcp, udp, icmp, icmp6 or a number")
	flags.Uint16Var(&p.SrcPort, "src-port", 0, "the TCP or UDP source port")
	flags.Uint16Var(&p.DstPort, "dst-port", 0, "the TCP or UDP destination port")
	flags.Uint8Var(&icmpType, "icmp-type", 0, "the type of ICMP or ICMPv6 (default that of an echo request)")
	complete(cmd, "interface", a.interfaceIDs)
	fixed(cmd, "origin", "guest", "wire")
	fixed(cmd, "proto", "tcp", "udp", "icmp", "icmp6")
	return cmd
}

// explained returns what the command line asks about, by its own flags and arguments.
func explained(p api.FlowExplainParams, args []string, own *pflag.FlagSet) (api.FlowExplainParams, error) {
	if len(args) == 0 {
		if p.Interface == "" || p.Proto == "" {
			return p, errors.New("give the ID of a flow, as in dpctl flow list, or --interface and --proto of a packet")
		}
		return p, nil
	}
	id, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		return p, fmt.Errorf("%q is not the ID of a flow: see dpctl flow list", args[0])
	}
	var others []string
	own.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			others = append(others, "--"+f.Name)
		}
	})
	if len(others) > 0 {
		return p, fmt.Errorf("the ID says all of a flow: %s does not go with it", strings.Join(others, " "))
	}
	return api.FlowExplainParams{ID: &id}, nil
}

var explanationView = view[api.FlowExplainResult]{
	table: func(w io.Writer, r api.FlowExplainResult) {
		if f := r.Flow; f != nil {
			fmt.Fprintf(w, "%s %s > %s in VNI %d, from the %s\n", flowProto(*f), endpoint(*f, f.Src, f.SrcPort),
				endpoint(*f, f.Dst, f.DstPort), f.VNI, f.Origin)
		}
		fmt.Fprintln(w, r.Verdict)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, s := range r.Steps {
			fmt.Fprintf(tw, "  %s\t%s\n", s.Subject, s.Text)
		}
		if r.Rule != nil {
			fmt.Fprintf(tw, "  \tpattern %s\n  \tactions %s\n", r.Rule.Pattern, r.Rule.Actions)
			fmt.Fprintf(tw, "  \t%v packets and %v bytes so far\n", orDash(r.Rule.Hits), orDash(r.Rule.Bytes))
		}
		for _, c := range r.Captures {
			fmt.Fprintf(tw, "  capture\t%s\n  \tpattern %s\n  \t%d packets and %d bytes have met this rule so far\n", captureEffect(c),
				c.Rule, c.Packets, c.Bytes)
		}
		_ = tw.Flush() // into a buffer
	},
}

// captureEffect says what a capture does with the packet.
func captureEffect(c api.ExplainCapture) string {
	does := map[bool]string{true: "copies it", false: "leaves it out"}[c.Copied]
	if c.Depends != "" {
		does += " or not, depending on " + c.Depends
	}
	return fmt.Sprintf("%s at %s %s %s", c.Session, c.Interface, c.Direction, does)
}
