// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

func (a *app) flowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "flow",
		Short:   "Look at the flows",
		Example: "  dpctl flow list\n  dpctl flow explain --interface=vm-1 --proto=tcp --dst=10.0.0.9 --dst-port=443",
	}
	cmd.AddCommand(a.flowList(), a.flowExplain())
	return cmd
}

func (a *app) flowList() *cobra.Command {
	var f api.FlowFilter
	var vni uint32
	var srcPort, dstPort uint16
	var offloaded bool
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the flows",
		Long: "List the flows that fit every given flag. HW says whether the NIC forwards the flow by itself. INTERFACE and ORIGIN say to\n" +
			"whose share of the flow table and of the NIC's rules it counts: 'dpctl system info' shows how much each holds.",
		Example: `  dpctl flow list
  dpctl flow list --interface=vm-1 --proto=tcp --offloaded
  dpctl flow list --offloaded=false --limit=10`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return fmt.Errorf("--limit must not be negative")
			}
			f.VNI = given(cmd, "vni", &vni)
			f.SrcPort = given(cmd, "src-port", &srcPort)
			f.DstPort = given(cmd, "dst-port", &dstPort)
			f.Offloaded = given(cmd, "offloaded", &offloaded)
			result, err := a.flows(cmd, f, limit)
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), a.output, result, flowView)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Interface, "interface", "", "only those of the guest's interface with this id")
	flags.Uint32Var(&vni, "vni", 0, "only those of this virtual network")
	flags.StringVar(&f.Src, "src", "", "only those from this address")
	flags.StringVar(&f.Dst, "dst", "", "only those to this address")
	flags.StringVar(&f.Address, "address", "", "only those from or to this address")
	flags.StringVar(&f.State, "state", "", "only those in this state: new, established or closing")
	flags.StringVar(&f.Proto, "proto", "", "only those of this protocol: tcp, udp, icmp, icmp6 or a number")
	flags.Uint16Var(&srcPort, "src-port", 0, "only those from this TCP or UDP port")
	flags.Uint16Var(&dstPort, "dst-port", 0, "only those to this TCP or UDP port")
	flags.BoolVar(&offloaded, "offloaded", false,
		"only those that the NIC forwards by itself; with =false only the others")
	flags.IntVar(&limit, "limit", 0, "at most so many (default all)")
	complete(cmd, "interface", a.interfaceIDs)
	fixed(cmd, "state", "new", "established", "closing")
	fixed(cmd, "proto", "tcp", "udp", "icmp", "icmp6")
	return cmd
}

// flows returns a result of flow.list with all flows, which it collects from several answers. Unless limit is 0, it
// returns at most limit flows.
func (a *app) flows(cmd *cobra.Command, f api.FlowFilter, limit int) (json.RawMessage, error) {
	all := struct {
		Flows      []json.RawMessage `json:"flows"`
		NextCursor string            `json:"next_cursor,omitempty"`
	}{Flows: []json.RawMessage{}}
	for more := true; more; more = all.NextCursor != "" && (limit == 0 || len(all.Flows) < limit) {
		page := api.MaxFlows
		if limit > 0 {
			page = min(page, limit-len(all.Flows))
		}
		result, err := a.call(cmd.Context(), api.MethodFlowList,
			api.FlowListParams{Filter: f, Limit: &page, Cursor: all.NextCursor})
		if err != nil {
			return nil, err
		}
		flows := all.Flows
		all.Flows, all.NextCursor = nil, ""
		if err := json.Unmarshal(result, &all); err != nil {
			return nil, failure{fmt.Errorf("the daemon's answer: %w", err)}
		}
		all.Flows = append(flows, all.Flows...)
	}
	result, err := json.Marshal(all)
	if err != nil {
		return nil, failure{err}
	}
	return result, nil
}

var flowView = view[api.FlowListResult]{
	table: func(w io.Writer, r api.FlowListResult) {
		const head = "ID INTERFACE ORIGIN VNI PROTO SOURCE DESTINATION IN OUT ACTION STATE HW PACKETS BYTES IDLE"
		table(w, head, each(r.Flows, func(f api.Flow) []any {
			return []any{
				f.ID, f.Interface, f.Origin, f.VNI, flowProto(f), endpoint(f, f.Src, f.SrcPort), endpoint(f, f.Dst, f.DstPort),
				f.InPort, f.OutPort, f.Action, f.State, yesNo(f.Offloaded), f.Packets, f.Bytes, seconds(f.IdleSeconds),
			}
		}))
	},
	names: func(r api.FlowListResult) []string {
		return each(r.Flows, func(f api.Flow) string { return strconv.FormatUint(f.ID, 10) })
	},
}

// flowProto returns the name of the protocol of a flow, with the type if it is ICMP.
func flowProto(f api.Flow) string {
	if f.ICMPType != nil {
		return fmt.Sprintf("%s/%d", f.Proto, *f.ICMPType)
	}
	return f.Proto
}

// endpoint returns an address, with the port if the protocol of the flow has ports.
func endpoint(f api.Flow, addr string, port uint16) string {
	if f.SrcPort == 0 && f.DstPort == 0 {
		return addr
	}
	return net.JoinHostPort(addr, strconv.Itoa(int(port)))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// seconds formats a time for people: to a tenth of a second, or to a second if it is a minute or longer.
func seconds(s float64) string {
	if s < 60 {
		return fmt.Sprintf("%.1fs", s)
	}
	return (time.Duration(s) * time.Second).String()
}
