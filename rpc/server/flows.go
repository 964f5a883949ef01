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

// parseExplain returns which packet is to be explained.
func parseExplain(p api.FlowExplainParams) (r status.ExplainRequest, err error) {
	if p.ID != nil {
		if p != (api.FlowExplainParams{ID: p.ID}) {
			return r, invalid("field %q: an id says all of a flow, so no other field goes with it", "id")
		}
		if *p.ID == 0 {
			return r, invalid("field %q: no flow has the id 0", "id")
		}
		return status.ExplainRequest{ID: *p.ID}, nil
	}
	if p.Interface == "" {
		return r, invalid("missing field %q, or %q", "interface", "id")
	}
	r = status.ExplainRequest{
		Interface: p.Interface, FromWire: p.Origin == originWire, SrcPort: p.SrcPort, DstPort: p.DstPort,
	}
	if p.Origin != "" && p.Origin != originWire && p.Origin != originGuest {
		return r, invalid("field %q: %q is not guest or wire", "origin", p.Origin)
	}
	if p.Peer != "" && !r.FromWire {
		return r, invalid("field %q: only what comes from the wire has a peer", "peer")
	}
	for _, a := range []struct {
		field, text string
		to          *netip.Addr
	}{{"peer", p.Peer, &r.Peer}, {"src", p.Src, &r.Src}, {"dst", p.Dst, &r.Dst}} {
		if *a.to, err = parseAddr(a.field, a.text); err != nil {
			return r, err
		}
	}
	return r, explainL4(p, &r)
}

// explainL4 reads the protocol and what the flow has of its header.
func explainL4(p api.FlowExplainParams, r *status.ExplainRequest) error {
	proto, err := parseProto("proto", p.Proto)
	if err != nil {
		return err
	}
	if proto == nil {
		return invalid("missing field %q: tcp, udp, icmp, icmp6 or a number", "proto")
	}
	r.Proto = *proto
	ports, icmp := protocols[r.Proto] == "tcp" || protocols[r.Proto] == "udp", echoRequests[r.Proto] != 0
	switch {
	case !ports && (p.SrcPort != 0 || p.DstPort != 0):
		return invalid("field %q: only TCP and UDP have ports", "src_port")
	case !icmp && p.ICMPType != nil:
		return invalid("field %q: only ICMP has types", "icmp_type")
	case icmp && p.ICMPType != nil:
		r.SrcPort = uint16(*p.ICMPType) << 8
	case icmp:
		r.SrcPort = uint16(echoRequests[r.Proto]) << 8
	}
	return nil
}

// echoRequests are the types of echo requests, by the protocol.
var echoRequests = map[uint8]uint8{1: 8, 58: 128}
