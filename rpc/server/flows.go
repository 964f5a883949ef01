// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dpservice/rpc/api"
)

// protocols are the names of the protocols that flows have.
var protocols = map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}

// flowList lists the flows that fit the filter. An answer may hold fewer flows than the limit, or none, although more
// follow: so it comes soon, however many flows there are.
func (c calls) flowList(_ context.Context, p api.FlowListParams) (api.FlowListResult, error) {
	limit, cursor, err := flowPage(p)
	if err != nil {
		return api.FlowListResult{}, err
	}
	fits, err := newFlowFilter(p.Filter)
	if err != nil {
		return api.FlowListResult{}, err
	}
	flows, next, err := c.Flows.Flows(cursor, limit, fits.match)
	if err != nil {
		return api.FlowListResult{}, err
	}
	result := api.FlowListResult{Flows: convert(flows, toFlow)}
	if next != 0 {
		result.NextCursor = strconv.FormatUint(next, 10)
	}
	return result, nil
}

// flowPage returns which part of the flows is asked for.
func flowPage(p api.FlowListParams) (limit int, cursor uint64, err error) {
	limit = api.DefaultFlows
	if p.Limit != nil {
		limit = *p.Limit
	}
	if limit < 1 || limit > api.MaxFlows {
		return 0, 0, invalid("field %q: want 1 to %d", "limit", api.MaxFlows)
	}
	if p.Cursor == "" {
		return limit, 0, nil
	}
	cursor, err = strconv.ParseUint(p.Cursor, 10, 64)
	if err != nil {
		return 0, 0, invalid("field %q: %q is not a next_cursor of flow.list", "cursor", p.Cursor)
	}
	return limit, cursor, nil
}

// flowStates are the states that flows have.
var flowStates = []string{"new", "established", "closing"}

// flowFilter is an api.FlowFilter, parsed.
type flowFilter struct {
	api.FlowFilter
	src, dst, address netip.Addr
	proto             *uint8
}

func newFlowFilter(in api.FlowFilter) (flowFilter, error) {
	f := flowFilter{FlowFilter: in}
	var err error
	if f.src, err = parseAddr("filter.src", in.Src); err != nil {
		return f, err
	}
	if f.dst, err = parseAddr("filter.dst", in.Dst); err != nil {
		return f, err
	}
	if f.address, err = parseAddr("filter.address", in.Address); err != nil {
		return f, err
	}
	if in.State != "" && !slices.Contains(flowStates, in.State) {
		return f, invalid("field %q: %q is not %s", "filter.state", in.State, strings.Join(flowStates, ", "))
	}
	f.proto, err = parseProto("filter.proto", in.Proto)
	return f, err
}

// parseProto returns the IP protocol in a field; nil for an empty one.
func parseProto(field, text string) (*uint8, error) {
	if text == "" {
		return nil, nil
	}
	for number, name := range protocols {
		if name == text {
			return &number, nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return nil, invalid("field %q: %q is not tcp, udp, icmp, icmp6 or a number up to 255", field, text)
	}
	number := uint8(n)
	return &number, nil
}

// match reports whether a flow fits every field of the filter that is set.
func (f flowFilter) match(flow Flow) bool {
	return (f.Interface == "" || f.Interface == flow.Interface) &&
		fits(f.VNI, flow.VNI) &&
		(!f.src.IsValid() || f.src == flow.Src) &&
		(!f.dst.IsValid() || f.dst == flow.Dst) &&
		(!f.address.IsValid() || f.address == flow.Src || f.address == flow.Dst) &&
		(f.State == "" || f.State == flow.State) &&
		fits(f.proto, flow.Proto) &&
		fits(f.SrcPort, flow.SrcPort) &&
		fits(f.DstPort, flow.DstPort) &&
		fits(f.Offloaded, flow.Offloaded)
}

// fits reports whether value is the wanted one, if one is wanted.
func fits[T comparable](want *T, value T) bool { return want == nil || *want == value }

func toFlow(f Flow) api.Flow {
	origin := "wire"
	if f.FromGuest {
		origin = "guest"
	}
	flow := api.Flow{
		ID:         f.ID,
		Interface:  f.Interface,
		Origin:     origin,
		VNI:        f.VNI,
		Src:        f.Src.String(),
		Dst:        f.Dst.String(),
		Proto:      protoName(f.Proto),
		SrcPort:    f.SrcPort,
		DstPort:    f.DstPort,
		InPort:     f.InPort,
		OutPort:    f.OutPort,
		Action:     f.Action,
		State:      f.State,
		Offloaded:  f.Offloaded,
		Packets:    f.Packets,
		Bytes:      f.Bytes,
		AgeSeconds: f.Idle.Seconds(),
	}
	if name := protocols[f.Proto]; name == "icmp" || name == "icmp6" {
		flow.ICMPType = &f.ICMPType
	}
	return flow
}

func protoName(number uint8) string {
	if name, ok := protocols[number]; ok {
		return name
	}
	return strconv.Itoa(int(number))
}
