// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dpservice/dpservice/status"
	"dpservice/rpc/api"
)

// flowPage returns which part of the flows is requested.
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
func (f flowFilter) match(flow status.Flow) bool {
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
