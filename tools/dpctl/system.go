// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

func (a *app) graphCommand() *cobra.Command {
	dot := command(a, api.MethodGraphDOT, nil, view[api.GraphDOTResult]{
		table: func(w io.Writer, r api.GraphDOTResult) { fmt.Fprint(w, r.DOT) },
	})
	var asDOT, asSVG bool
	cmd := &cobra.Command{
		Use:     "graph",
		Short:   "Look at the packet graph",
		Long:    "The packet graph is the software path: what the NIC does not forward by itself passes its nodes.",
		Example: "  dpctl graph stats\n  dpctl graph --dot\n  dpctl graph --svg > graph.svg",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !asDOT && !asSVG || len(args) > 0 {
				return noCommand(cmd, args)
			}
			return a.maybeSVG(cmd, args, asSVG, dot)
		},
	}
	cmd.Flags().BoolVar(&asDOT, "dot", false, "draw the graph in DOT")
	cmd.Flags().BoolVar(&asSVG, "svg", false, "draw the graph in SVG, with Graphviz' dot")
	cmd.MarkFlagsMutuallyExclusive("dot", "svg")
	cmd.AddCommand(&cobra.Command{
		Use:   "stats",
		Short: "Show the nodes' counters, and what was dropped",
		Long: `Show the nodes' counters, and how many packets of which interface were dropped and why. Every reason is also a node of its
own, named drop_<reason>. What an ICMP error answers counts as dropped, but does not pass that node.`,
		Example: "  dpctl graph stats",
		Args:    cobra.NoArgs,
		RunE: command(a, api.MethodGraphStats, nil, view[api.GraphStatsResult]{
			table: func(w io.Writer, r api.GraphStatsResult) {
				table(w, "NODE CALLS PACKETS PACKETS/CALL CYCLES/PACKET", each(r.Nodes, func(n api.NodeStats) []any {
					return []any{n.Name, n.Calls, n.Packets, ratio(n.Packets, n.Calls), ratio(n.Cycles, n.Packets)}
				}))
				if len(r.Drops) == 0 {
					return
				}
				fmt.Fprintln(w)
				table(w, "INTERFACE PORT DROPPED-FOR PACKETS", each(r.Drops, func(d api.GraphDrops) []any {
					return []any{cmp.Or(d.Interface, "-"), d.Port, d.Reason, d.Packets}
				}))
			},
			names: func(r api.GraphStatsResult) []string {
				return each(r.Nodes, func(n api.NodeStats) string { return n.Name })
			},
		}),
	}, &cobra.Command{
		Use:     "dot",
		Short:   "Draw the graph in DOT",
		Example: "  dpctl graph dot | dot -Tsvg -o graph.svg",
		Args:    cobra.NoArgs,
		RunE:    dot,
	})
	return cmd
}

// ratio formats a/b.
func ratio(a, b uint64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", float64(a)/float64(b))
}

func (a *app) systemCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "system",
		Short:   "Look at the daemon",
		Example: "  dpctl system info",
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "info",
		Short:   "Show versions, uptime and configuration",
		Example: "  dpctl system info",
		Args:    cobra.NoArgs,
		RunE:    command(a, api.MethodSystemInfo, nil, view[api.SystemInfoResult]{table: writeInfo}),
	}, &cobra.Command{
		Use:   "access",
		Short: "Show what you may do",
		Long: `Show what you may do, by which rules of access in the daemon's configuration, and how your captures are limited.
A request that no rule allows is answered PERMISSION_DENIED, with the rule that is missing.`,
		Example: "  dpctl system access\n  dpctl -o json system access",
		Args:    cobra.NoArgs,
		RunE: command(a, api.MethodSystemAccess, nil, view[api.SystemAccessResult]{
			table: writeAccess,
			names: func(r api.SystemAccessResult) []string { return r.Methods },
		}),
	}, a.systemReport())
	return cmd
}

func writeAccess(w io.Writer, r api.SystemAccessResult) {
	who := strconv.Itoa(int(r.UID))
	if r.User != "" {
		who = fmt.Sprintf("%s (%d)", r.User, r.UID)
	}
	lines(w, [][2]any{
		{"User", who},
		{"Groups", strings.Join(each(r.GIDs, func(gid uint32) string { return strconv.Itoa(int(gid)) }), ", ")},
		{"Methods", strings.Join(r.Methods, ", ")},
	})
	if len(r.Grants) == 0 {
		return
	}
	fmt.Fprintln(w)
	table(w, "BY ALLOWS CAPTURES", each(r.Grants, func(g api.AccessGrant) []any {
		return []any{g.From, strings.Join(g.Allow, ","), accessLimitsText(g)}
	}))
}

func accessLimitsText(g api.AccessGrant) string {
	switch l := g.Captures; {
	case l != nil:
		var parts []string
		for _, limit := range []struct {
			what   string
			values []string
		}{
			{"sinks", l.Sinks}, {"interfaces", l.Interfaces},
			{"VNIs", each(l.VNIs, func(vni uint32) string { return strconv.Itoa(int(vni)) })},
		} {
			if len(limit.values) > 0 {
				parts = append(parts, limit.what+" "+strings.Join(limit.values, ", "))
			}
		}
		if l.MaxDuration != "" {
			parts = append(parts, "at most "+l.MaxDuration)
		}
		if l.MaxPacketsPerSecond != 0 {
			parts = append(parts, fmt.Sprintf("at most %d packets/s", l.MaxPacketsPerSecond))
		}
		return strings.Join(parts, "; ")
	case slices.Contains(g.Allow, string(api.ClassCaptures)):
		return "all"
	default:
		return ""
	}
}

func writeInfo(w io.Writer, i api.SystemInfoResult) {
	offload := "off"
	if i.Offload {
		offload = "on"
	}
	facts := [][2]any{
		{"Version", i.Version},
		{"API version", i.APIVersion},
		{"DPDK", i.DPDKVersion},
		{"Go", i.GoVersion},
		{"PID", i.PID},
		{"Uptime", seconds(i.UptimeSeconds)},
		{"Offload", offload},
		{"Main lcore", i.Lcores.Main},
		{"Worker lcores", strings.Join(each(i.Lcores.Workers, strconv.Itoa), ", ")},
		{"NIC", fmt.Sprintf("%s, ports in rules named by %s", i.NIC.Driver, i.NIC.PortNaming)},
		{"Underlay address", i.Underlay.IP},
	}
	for _, u := range i.Underlay.Uplinks {
		facts = append(facts, [2]any{fmt.Sprintf("Uplink pf%d", u.PF), describeUplink(u)})
	}
	lines(w, append(facts, [][2]any{
		{"Flows", fmt.Sprintf("%d of at most %d; %d packets found the table full", i.Flows.Known, i.Flows.Capacity,
			i.Flows.Overflow)},
		{"Flows in the NIC",
			fmt.Sprintf("%d of at most %d; %d ever, %d aged, %d refused, %d over the limit, %d made room; %d wait",
				i.Flows.Rules, i.Flows.MaxRules, i.Flows.Created, i.Flows.Aged, i.Flows.Refused, i.Flows.Limited, i.Flows.Evicted,
				i.Flows.Backlog)},
		{"Guaranteed", fmt.Sprintf("%d flows, %d in the NIC, of each interface and origin", i.Flows.Guaranteed,
			i.Flows.GuaranteedRules)},
	}...))
	if len(i.Flows.Shares) == 0 {
		return
	}
	fmt.Fprintln(w)
	const head = "INTERFACE ORIGIN FLOWS EVICTED OVERFLOW HW HW-EVICTED HW-LIMITED"
	table(w, head, each(i.Flows.Shares, func(s api.FlowShare) []any {
		return []any{s.Interface, s.Origin, s.Flows, s.FlowsEvicted, s.Overflow, s.Rules, s.RulesEvicted, s.Limited}
	}))
}

func describeUplink(u api.Uplink) string {
	usable := "usable"
	if !u.Usable {
		usable = "not usable"
	}
	router := "router not known to"
	if u.RouterMAC != "" {
		router = "router " + u.RouterMAC + " from"
	}
	return fmt.Sprintf("%s: %s, link %s, %s %s", usable, u.Port, u.Link, router,
		strings.ReplaceAll(u.RouterFrom, "_", " "))
}

func (a *app) rpcCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rpc METHOD [JSON]",
		Short: "Call any method with parameters in JSON",
		Long:  "Call any method of the JSON-RPC interface with parameters in JSON, and show the result in JSON (or YAML).",
		Example: `  dpctl rpc capture.status
  dpctl rpc interface.get '{"id": "vm-1"}'`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var params any
			if len(args) == 2 {
				if !json.Valid([]byte(args[1])) {
					return errors.New("the parameters are not valid JSON")
				}
				params = json.RawMessage(args[1])
			}
			if a.output == "table" {
				a.output = "json"
			}
			return command(a, api.Method[any, any](args[0]), func([]string) (any, error) { return params, nil },
				view[any]{})(cmd, args)
		},
		ValidArgsFunction: first(func(*cobra.Command) []string { return each(api.Methods, api.ClassifiedMethod.Name) }),
	}
}
