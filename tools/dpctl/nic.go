// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dpservice/dpservice/nic/nicgroup"
	"dpservice/rpc/api"
)

func (a *app) ruleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rule",
		Short:   "Look at the rules in the NIC",
		Example: "  dpctl rule list\n  dpctl rule graph --svg > rules.svg",
	}
	cmd.AddCommand(a.ruleList(), a.ruleGraph())
	return cmd
}

func (a *app) ruleList() *cobra.Command {
	var p api.RuleListParams
	var group uint32
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the rules in the NIC",
		Long: `List the rules in the NIC, with pattern and actions in testpmd's syntax. Packets start in group 0 (DEFAULT);
CAPTURE has the captures' rules, VNET those of guests' flows and of decapsulation, DECAPSULATED those of flows from the
wire. A dash for HITS is a rule that does not count.`,
		Example: `  dpctl rule list
  dpctl rule list --port=net_eswitch0 --group=2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Group = given(cmd, "group", &group)
			return command(a, api.MethodRuleList, func([]string) (api.RuleListParams, error) { return p, nil }, ruleView)(cmd,
				args)
		},
	}
	cmd.Flags().StringVar(&p.Port, "port", "", "only those of this port, by its ethdev name")
	cmd.Flags().Uint32Var(&group, "group", 0, "only those of this group")
	complete(cmd, "port", a.portNames)
	return cmd
}

// groupTitle returns the number of a group and, if dpservice has one for it, its name.
func groupTitle(domain string, group uint32) string {
	if domain != "transfer" {
		return strconv.FormatUint(uint64(group), 10)
	}
	return nicgroup.Group(group).String()
}

var ruleView = view[api.RuleListResult]{
	table: func(w io.Writer, r api.RuleListResult) {
		table(w, "PORT GROUP PRIORITY DOMAIN NAME HITS PATTERN ACTIONS", each(r.Rules, func(r api.Rule) []any {
			return []any{r.Port, groupTitle(r.Domain, r.Group), r.Priority, r.Domain, r.Name, orDash(r.Hits), r.Pattern,
				r.Actions}
		}))
	},
	names: func(r api.RuleListResult) []string {
		return each(r.Rules, func(r api.Rule) string { return r.Port + ":" + r.Name })
	},
}

func (a *app) portCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "port",
		Short:   "Look at the NIC's ports",
		Example: "  dpctl port list",
	}
	cmd.AddCommand(a.portList(), a.portStats())
	return cmd
}

func (a *app) portList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the ports",
		Long: "List the ports. One without a switch DOMAIN is not in switchdev mode: its packets are forwarded in software.\n" +
			"A port whose LINK is removed was removed, or has reported a fatal error: it is not used until dpservice is started again.",
		Example: `  dpctl port list
  dpctl -o name port list`,
		Args: cobra.NoArgs,
		RunE: command(a, api.MethodPortList, nil, view[api.PortListResult]{
			table: func(w io.Writer, r api.PortListResult) {
				table(w, "ID NAME ROLE LINK STARTED MAC MTU DOMAIN", each(r.Ports, func(p api.Port) []any {
					role := fmt.Sprintf("%s%d", p.Role, p.Index)
					return []any{p.ID, p.Name, role, p.Link, yesNo(p.Started), p.MAC, p.MTU, orDash(p.SwitchDomain)}
				}))
			},
			names: func(r api.PortListResult) []string {
				return each(r.Ports, func(p api.Port) string { return p.Name })
			},
		}),
	}
}

func (a *app) portStats() *cobra.Command {
	return &cobra.Command{
		Use:   "stats [PORT]",
		Short: "Show the ports' counters",
		Long: `Show the ports' counters. With the ethdev name of a port, also the driver's own ones (xstats). Packets that the NIC
forwards by itself do not pass the software's RX and TX, which the first columns count.`,
		Example: `  dpctl port stats
  dpctl port stats net_eswitch0`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := api.PortStatsParams{Port: strings.Join(args, "")}
			v := view[api.PortStatsResult]{
				table: func(w io.Writer, r api.PortStatsResult) { writePortStats(w, r.Ports, p.Port != "") },
				names: func(r api.PortStatsResult) []string {
					return each(r.Ports, func(s api.PortStats) string { return s.Name })
				},
			}
			return command(a, api.MethodPortStats, func([]string) (api.PortStatsParams, error) { return p, nil }, v)(cmd, args)
		},
		ValidArgsFunction: first(a.portNames),
	}
}

func writePortStats(w io.Writer, all []api.PortStats, xstats bool) {
	const head = "NAME RX-PACKETS RX-BYTES RX-MISSED RX-ERRORS RX-NO-BUFFER TX-PACKETS TX-BYTES TX-ERRORS"
	table(w, head, each(all, func(s api.PortStats) []any {
		return []any{
			s.Name, s.RxPackets, s.RxBytes, s.RxMissed, s.RxErrors, s.RxNoBuffer, s.TxPackets, s.TxBytes, s.TxErrors,
		}
	}))
	if !xstats {
		return
	}
	for _, s := range all {
		fmt.Fprintln(w)
		table(w, "XSTAT VALUE", each(slices.Sorted(maps.Keys(s.Xstats)), func(name string) []any {
			return []any{name, s.Xstats[name]}
		}))
	}
}
