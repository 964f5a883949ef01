// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
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
in front of the copy and sends it to the sink node. The packets themselves go on undisturbed. Where the NIC forwards nothing
by itself, dpservice does the same in software.`,
		Example: `  dpctl capture start --sink-node-ip=fc00:2::1 --udp-dst-port=3010 --vf=vm-1,vm-2 --pf=0
  dpctl capture status
  dpctl capture stop`,
	}
	cmd.AddCommand(a.captureStart(), a.captureLive(), a.captureStop(), a.captureStatus(), a.captureNames(),
		a.captureCapabilities(), a.captureReceive(), captureDump())
	return cmd
}

func (a *app) captureStart() *cobra.Command {
	var p api.CaptureStartParams
	var limits limitFlags
	var of selection
	cmd := &cobra.Command{
		Use:   "start --sink-node-ip=IP --udp-dst-port=N [--encap=vxlan] [--direction=both] [--drops] [--filter=EXPRESSION] [--vf=ID,...] [--vni=N,...] [--all] [--pf=0]",
		Short: "Start a capture",
		Long: `Start to capture what the guests behind the interfaces send (--vf, or --vni and --all for those that are there now) and
what arrives from the wire (--pf=0). With --direction=tx it is what the guests receive, byte for byte, and with
--direction=both what they send as well. --drops adds what the software drops, with the reason: of
what the guests send and of what comes for them, and with --pf=0 what came from the wire for none. With --direction=none there
is nothing else.
Several captures can run at once, each with a name, a sink and interfaces of its own; 16 interfaces in total, unless the
daemon is configured otherwise. At the sink:

    dpctl capture receive --udp-dst-port=3010 -w test.pcapng

or, with nothing but tcpdump and editcap:

    tcpdump -ni eth0 udp dst port 3010 -w test.pcap
    editcap -C 62 -F pcap test.pcap test_no_udp.pcap

Each interface has a label for each direction, which status shows. In its copies it is the flow label of the outer IPv6 header; with
--encap=vxlan it is the VNI, and any VXLAN endpoint can be the sink.

A filter is in tcpdump's language, as far as the NIC's rules can express it. On PF0 it is about the packets in the tunnel,
of which a NIC may tell only ip from ip6: capture capabilities says.`,
		Example: `  dpctl capture start --sink-node-ip=fc00:2::1 --udp-dst-port=3010 --vf=vm-1,vm-2 --pf=0
  dpctl capture start --sink-node-ip=fc00:2::1 --encap=vxlan --vni=100 --direction=both
  dpctl capture start --sink-node-ip=fc00:2::1 --udp-dst-port=3010 --vf=vm-1 --name=https \
      --filter='tcp port 443 and not host 10.0.0.9' --duration=30s --packets=1000 --bytes=10M
  dpctl capture start --sink-node-ip=fc00:2::1 --udp-dst-port=3010 --vf=vm-1 --direction=both
  dpctl capture start --sink-node-ip=fc00:2::1 --udp-dst-port=3010 --all --pf=0 --drops --direction=none
  dpctl capture start --sink-node-ip=fc00:2::1 --udp-dst-port=3010 --pf=0 --dry-run`,
		Args: cobra.NoArgs,
		RunE: command(a, api.MethodCaptureStart, func([]string) (api.CaptureStartParams, error) {
			if p.UDPDstPort == 0 && p.Encap != "vxlan" {
				return p, errors.New("--udp-dst-port is required")
			}
			p.Interfaces, p.Limits = of.selectors(), limits.params()
			return p, nil
		}, view[api.CaptureSession]{
			table: func(w io.Writer, s api.CaptureSession) { writeSession(w, s, nil) },
			names: func(s api.CaptureSession) []string { return []string{s.Name} },
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&p.SinkNodeIP, "sink-node-ip", "", "underlay IPv6 address of the node that gets the copies (required)")
	flags.Uint16Var(&p.UDPSrcPort, "udp-src-port", 0, "UDP source port of the copies; a NIC overwrites it (default 3000)")
	flags.Uint16Var(&p.UDPDstPort, "udp-dst-port", 0,
		"UDP destination port of the copies (required; with --encap=vxlan the default is 4789)")
	flags.StringVar(&p.Encap, "encap", "", `how copies are wrapped, "udp" or "vxlan" (default "udp")`)
	flags.StringVar(&p.Direction, "direction", "",
		`what of the guests to capture: "rx" what they send, "tx" what they receive, "both", or "none" with --drops `+
			`(default "rx")`)
	flags.BoolVar(&p.Drops, "drops", false, "capture also what the software drops, with the reason")
	of.flags(a, cmd)
	flags.StringVar(&p.Name, "name", "", `name of the capture (default "default")`)
	flags.StringVar(&p.Filter, "filter", "", "which packets to capture, in tcpdump's language (default all)")
	flags.DurationVar(&limits.duration, "duration", 0, "end the capture after this time (default never)")
	flags.Uint64Var(&limits.packets, "packets", 0, "end the capture after so many packets (default never)")
	flags.Uint64Var(&limits.rate, "packets-per-second", 0,
		"end the capture if it copies more than so many packets a second (default never)")
	flags.Var(&limits.bytes, "bytes", "end the capture after so many bytes of packets, such as 10M (default never)")
	flags.BoolVar(&p.DryRun, "dry-run", false,
		"show the rules that would be put into the NIC, in testpmd's syntax, and change nothing")
	mandatory(cmd, "sink-node-ip")
	cmd.MarkFlagsOneRequired("vf", "vni", "all", "pf")
	fixed(cmd, "encap", "udp", "vxlan")
	fixed(cmd, "direction", directions...)
	return cmd
}

func (a *app) captureStop() *cobra.Command {
	var p api.CaptureStopParams
	cmd := &cobra.Command{
		Use:   "stop [NAME]",
		Short: "Stop all captures, or one",
		Long:  "Stop all captures, or the one with the given name. The NIC's rules are then as they were before.",
		Example: `  dpctl capture stop
  dpctl capture stop default`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(a.sessionNames),
		RunE: command(a, api.MethodCaptureStop, func(args []string) (api.CaptureStopParams, error) {
			if len(args) > 0 {
				p.Name = args[0]
			}
			return p, nil
		}, view[api.CaptureStopResult]{
			table: func(w io.Writer, r api.CaptureStopResult) {
				fmt.Fprintf(w, "stopped capturing on %d interface(s)\n", r.StoppedInterfaces)
			},
		}),
	}
	cmd.Flags().StringVar(&p.Name, "name", "", "name of the capture, as NAME (default all)")
	return cmd
}

func (a *app) captureStatus() *cobra.Command {
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the captures that are active, that wait, and that have ended",
		Long: `Show the captures that are active, with their configuration and how much has been copied; those from before a restart
of the daemon that could not be restored yet, with what they wait for; and the last ones that have ended, with the reason.`,
		Example: `  dpctl capture status
  dpctl capture status --watch
  dpctl -o json capture status`,
		Args: cobra.NoArgs,
	}
	var rates *rateHistory // of --watch
	once := command(a, api.MethodCaptureStatus, nil, view[api.CaptureStatusResult]{
		table: func(w io.Writer, r api.CaptureStatusResult) {
			if rates != nil {
				rates.look(time.Now(), r)
			}
			writeStatus(w, r, rates)
		},
		names: func(r api.CaptureStatusResult) []string {
			return each(r.Sessions, func(s api.CaptureSession) string { return s.Name })
		},
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !watch {
			return once(cmd, args)
		}
		rates = &rateHistory{}
		return repeat(cmd, interval, func() error { return once(cmd, args) })
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show them again and again with their rates, until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "how long to wait between two looks of --watch")
	return cmd
}

// writeStatus shows captures, with their rates unless these are nil.
func writeStatus(w io.Writer, r api.CaptureStatusResult, rates *rateHistory) {
	if !r.Active {
		fmt.Fprintln(w, "no capture is active")
	}
	for i, s := range r.Sessions {
		if i > 0 {
			fmt.Fprintln(w)
		}
		writeSession(w, s, rates)
	}
	if len(r.Waiting) > 0 {
		fmt.Fprintln(w, "\nWaiting to be restored:")
		table(w, "CAPTURE INTERFACES PACKETS BYTES WHY", each(r.Waiting, func(s api.CaptureSession) []any {
			return []any{s.Name, strings.Join(each(s.Interfaces, pointName), ","), s.Packets, s.Bytes, strings.Join(s.Warnings, "; ")}
		}))
	}
	if len(r.History) == 0 {
		return
	}
	fmt.Fprintln(w, "\nEnded:")
	table(w, "CAPTURE ENDED REASON PACKETS BYTES", each(r.History, func(s api.CaptureSession) []any {
		return []any{s.Name, formatTime(s.EndedAt), s.EndReason, s.Packets, s.Bytes}
	}))
}

// formatTime formats a time for people.
func formatTime(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func writeSession(w io.Writer, s api.CaptureSession, rates *rateHistory) {
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
	if s.Filter != "" {
		pairs = append(pairs, [2]any{"Filter", s.Filter})
	}
	if s.Limits != nil {
		pairs = append(pairs, [2]any{"Limits", limitsText(*s.Limits)})
	}
	if s.Held {
		pairs = append(pairs, [2]any{"Held", "it ends with the client that has started it"})
	}
	for _, warning := range s.Warnings {
		pairs = append(pairs, [2]any{"Warning", warning})
	}
	lines(w, pairs)
	fmt.Fprintln(w)
	head := "INTERFACE DIRECTION MODE PORT LABEL PACKETS BYTES"
	if rates != nil {
		head += " PACKETS/S BITS/S RATE"
	}
	table(w, head, each(s.Interfaces, func(i api.CaptureInterface) []any {
		row := []any{targetName(i.CaptureTarget), i.Direction, i.Mode, i.Port, i.Label, i.Packets, i.Bytes}
		if rates != nil {
			row = append(row, rates.columns(s.Name, i)...)
		}
		return row
	}))
	if s.Filter != "" && len(s.Plan) == 0 {
		writeRules(w, s)
	}
	if s.State == "dry_run" && len(s.Plan) == 0 {
		fmt.Fprintln(w, "\nNothing was changed. It takes no rules: the packet graph makes the copies.")
	}
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

// pointName returns the name of one direction of an interface.
func pointName(i api.CaptureInterface) string {
	switch i.Direction {
	case "tx":
		return targetName(i.CaptureTarget) + txSuffix
	case "drops":
		return targetName(i.CaptureTarget) + "-drops"
	}
	return targetName(i.CaptureTarget)
}

// directions are what --direction takes.
var directions = []string{"rx", "tx", "both", "none"}

// txSuffix is the suffix of the name for the direction that a VM receives.
const txSuffix = "-tx"

// writeRules shows the counters of the rules of the filter.
func writeRules(w io.Writer, s api.CaptureSession) {
	var rows [][]any
	for _, i := range s.Interfaces {
		for _, r := range i.Rules {
			rows = append(rows, []any{targetName(i.CaptureTarget), i.Direction, r.Action, r.Packets, r.Bytes, r.Pattern})
		}
	}
	fmt.Fprintln(w)
	table(w, "INTERFACE DIRECTION ACTION PACKETS BYTES RULE", rows)
}

func limitsText(l api.CaptureLimits) string {
	var parts []string
	if l.Duration != "" {
		parts = append(parts, l.Duration)
	}
	if l.Packets > 0 {
		parts = append(parts, fmt.Sprintf("%d packets", l.Packets))
	}
	if l.Bytes > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes", l.Bytes))
	}
	if l.PacketsPerSecond > 0 {
		parts = append(parts, fmt.Sprintf("%d packets/s", l.PacketsPerSecond))
	}
	return strings.Join(parts, ", ")
}

// sessionNames asks the daemon for the names of the captures.
func (a *app) sessionNames(cmd *cobra.Command) []string {
	r := ask(a, cmd, api.MethodCaptureStatus)
	return each(slices.Concat(r.Sessions, r.Waiting), func(s api.CaptureSession) string { return s.Name })
}

func (a *app) captureCapabilities() *cobra.Command {
	return &cobra.Command{
		Use:   "capabilities",
		Short: "Show what can be captured, and why not",
		Long: `Ask the NIC, port by port, which rules of captures it would take: for what a port receives and sends, for the
encapsulations, and for what filters look at. Nothing is changed. Where the mode is software, no rules are needed: the
NIC forwards nothing by itself there, and the packet graph makes the copies.`,
		Example: `  dpctl capture capabilities
  dpctl -o json capture capabilities`,
		Args: cobra.NoArgs,
		RunE: command(a, api.MethodCaptureCapabilities, nil, view[api.CaptureCapabilitiesResult]{
			table: writeCapabilities,
			names: func(r api.CaptureCapabilitiesResult) []string {
				return each(r.Ports, func(p api.CapturePort) string { return p.Port })
			},
		}),
	}
}

func writeCapabilities(w io.Writer, r api.CaptureCapabilitiesResult) {
	var rows [][]any
	for _, p := range r.Ports {
		add := func(kind string, c api.Capability) {
			supported := "yes"
			if !c.Supported {
				supported = "no"
			}
			rows = append(rows, []any{p.Port, p.Mode, kind, supported, c.Reason})
		}
		add("rx", p.RX)
		add("tx", p.TX)
		for _, c := range p.Encaps {
			add("encap="+c.Name, c)
		}
		for _, c := range p.Filter {
			add("filter="+c.Name, c)
		}
	}
	table(w, "PORT MODE CAPABILITY SUPPORTED REASON", rows)
}
