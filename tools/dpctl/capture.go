// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

func (a *app) captureCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "See the packets that the NIC forwards by itself",
		Long: `The NIC duplicates every packet that arrives on the chosen interfaces, puts Ethernet, IPv6 and UDP headers (62 bytes)
in front of the copy and sends it to the sink node. The packets themselves go on undisturbed.`,
		Example: `  dpctl capture start --sink-node-ip=fc00:2::1 --udp-src-port=3000 --udp-dst-port=3010 --vf=vm-1,vm-2 --pf=0
  dpctl capture status
  dpctl capture stop`,
	}
	cmd.AddCommand(a.captureStart(), a.captureStop(), a.captureStatus(), a.captureReceive())
	return cmd
}

func (a *app) captureStart() *cobra.Command {
	var p api.CaptureStartParams
	var vfs []string
	var pfs []int
	cmd := &cobra.Command{
		Use:   "start --sink-node-ip=IP --udp-src-port=N --udp-dst-port=N [--encap=vxlan] [--vf=ID,...] [--pf=0]",
		Short: "Start a capture",
		Long: `Start to capture what the guests behind the interfaces send (--vf) and what arrives from the wire (--pf=0).
At most 16 interfaces can be captured at the same time. At the sink:

    dpctl capture receive --udp-dst-port=3010 -w test.pcapng

or, with nothing but tcpdump and editcap:

    tcpdump -ni eth0 udp dst port 3010 -w test.pcap
    editcap -C 62 -F pcap test.pcap test_no_udp.pcap

Each interface has a label, which status shows. In its copies it is the flow label of the outer IPv6 header; with
--encap=vxlan it is the VNI, and any VXLAN endpoint can be the sink.`,
		Example: `  dpctl capture start --sink-node-ip=fc00:2::1 --udp-src-port=3000 --udp-dst-port=3010 --vf=vm-1,vm-2 --pf=0
  dpctl capture start --sink-node-ip=fc00:2::1 --udp-src-port=3000 --encap=vxlan --vf=vm-1
  dpctl capture start --sink-node-ip=fc00:2::1 --udp-src-port=3000 --udp-dst-port=3010 --pf=0 --dry-run`,
		Args: cobra.NoArgs,
		RunE: command(a, api.MethodCaptureStart, func([]string) (any, error) {
			if p.UDPDstPort == 0 && p.Encap != "vxlan" {
				return nil, errors.New("--udp-dst-port is required")
			}
			p.Interfaces = targets(vfs, pfs)
			return p, nil
		}, view[api.CaptureSession]{
			table: writeSession,
			names: func(s api.CaptureSession) []string { return []string{s.Name} },
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&p.SinkNodeIP, "sink-node-ip", "", "underlay IPv6 address of the node that gets the copies (required)")
	flags.Uint16Var(&p.UDPSrcPort, "udp-src-port", 0, "UDP source port of the copies; a NIC may overwrite it (required)")
	flags.Uint16Var(&p.UDPDstPort, "udp-dst-port", 0, "UDP destination port of the copies (required; with --encap=vxlan the default is 4789)")
	flags.StringVar(&p.Encap, "encap", "", `how copies are wrapped, "udp" or "vxlan" (default "udp")`)
	flags.StringSliceVar(&vfs, "vf", nil, "ids of the guests' interfaces to capture")
	flags.IntSliceVar(&pfs, "pf", nil, "numbers of the physical ports to capture; only 0 is in switchdev mode")
	flags.StringVar(&p.Name, "name", "", `name of the capture (default "default")`)
	flags.BoolVar(&p.DryRun, "dry-run", false, "show the rules that would be put into the NIC, in testpmd's syntax, and change nothing")
	for _, name := range []string{"sink-node-ip", "udp-src-port"} {
		mandatory(cmd, name)
	}
	cmd.MarkFlagsOneRequired("vf", "pf")
	complete(cmd, "vf", a.interfaceIDs)
	fixed(cmd, "encap", "udp", "vxlan")
	fixed(cmd, "pf", "0")
	return cmd
}

// targets returns the capture points that the flags name.
func targets(vfs []string, pfs []int) []api.CaptureTarget {
	var all []api.CaptureTarget
	for _, id := range vfs {
		all = append(all, api.CaptureTarget{VF: id})
	}
	for _, number := range pfs {
		all = append(all, api.CaptureTarget{PF: &number})
	}
	return all
}

func (a *app) captureStop() *cobra.Command {
	var p api.CaptureStopParams
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop all captures, or one",
		Long:  "Stop all captures, or the one with the given name. The NIC's rules are then as they were before.",
		Example: `  dpctl capture stop
  dpctl capture stop --name=default`,
		Args: cobra.NoArgs,
		RunE: command(a, api.MethodCaptureStop, func([]string) (any, error) { return p, nil }, view[api.CaptureStopResult]{
			table: func(w io.Writer, r api.CaptureStopResult) {
				fmt.Fprintf(w, "stopped capturing on %d interface(s)\n", r.StoppedInterfaces)
			},
		}),
	}
	cmd.Flags().StringVar(&p.Name, "name", "", "name of the capture (default all)")
	return cmd
}

func (a *app) captureStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the captures that are active",
		Long:  "Show the captures that are active, with their configuration and how much has been copied.",
		Example: `  dpctl capture status
  dpctl -o json capture status`,
		Args: cobra.NoArgs,
		RunE: command(a, api.MethodCaptureStatus, nil, view[api.CaptureStatusResult]{
			table: writeStatus,
			names: func(r api.CaptureStatusResult) []string {
				return each(r.Sessions, func(s api.CaptureSession) string { return s.Name })
			},
		}),
	}
}

func writeStatus(w io.Writer, r api.CaptureStatusResult) {
	if !r.Active {
		fmt.Fprintln(w, "no capture is active")
	}
	for i, s := range r.Sessions {
		if i > 0 {
			fmt.Fprintln(w)
		}
		writeSession(w, s)
	}
}

func writeSession(w io.Writer, s api.CaptureSession) {
	pairs := [][2]any{
		{"Capture", s.Name},
		{"State", strings.ReplaceAll(s.State, "_", " ")},
		{"Sink", fmt.Sprintf("%s, UDP port %d (source port %d)", s.SinkNodeIP, s.UDPDstPort, s.UDPSrcPort)},
	}
	if s.Encap == "vxlan" {
		pairs = append(pairs, [2]any{"Encap", s.Encap})
	}
	if s.StartedAt != nil {
		pairs = append(pairs, [2]any{"Started", s.StartedAt.UTC().Format(time.DateTime + " UTC")})
	}
	for _, warning := range s.Warnings {
		pairs = append(pairs, [2]any{"Warning", warning})
	}
	lines(w, pairs)
	fmt.Fprintln(w)
	table(w, "INTERFACE PORT LABEL PACKETS BYTES", each(s.Interfaces, func(i api.CaptureInterface) []any {
		return []any{targetName(i.CaptureTarget), i.Port, i.Label, i.Packets, i.Bytes}
	}))
	if len(s.Plan) > 0 {
		fmt.Fprintf(w, "\nNothing was changed. The rules, in testpmd's syntax:\n\n%s\n", strings.Join(s.Plan, "\n"))
	}
}

func targetName(t api.CaptureTarget) string {
	if t.PF != nil {
		return fmt.Sprintf("pf%d", *t.PF)
	}
	return t.VF
}
