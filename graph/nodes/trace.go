// SPDX-License-Identifier: Apache-2.0

package nodes

/*
#include <rte_graph.h>
#include "control.h"
*/
import "C"

import (
	"bytes"
	"fmt"
	"time"
	"unsafe"

	"dpservice/graph"
)

// traceBatch is how many traced packets are read at once.
const traceBatch = 64

// startTrace begins to follow packets.
func (n *instance) startTrace(t graph.Trace) error {
	if len(t.Guest) == 0 || max(len(t.Guest), len(t.Wire)) > graph.MaxTapRules {
		return fmt.Errorf("%d and %d rules, want 1 to %d: %w", len(t.Guest), len(t.Wire), graph.MaxTapRules,
			graph.ErrInvalid)
	}
	conf := C.struct_trace_conf{port: C.uint16_t(t.Port), iface: C.uint16_t(t.Interface), drops: C.bool(t.Drops)}
	putAddr(conf.underlay[:], t.Underlay)
	var conditions [C.TRACE_SIDES][]C.struct_tap_condition
	for side, rules := range [C.TRACE_SIDES][]graph.TapRule{t.Guest, t.Wire} {
		conf.nb_rules[side] = C.uint16_t(len(rules))
		for i, r := range rules {
			conf.sample[side][i] = C.bool(r.Sample)
			for _, c := range r.Conditions {
				conditions[side] = append(conditions[side], asCondition(i, c))
			}
		}
	}
	guest, wire := conditions[C.TRACE_GUEST], conditions[C.TRACE_WIRE]
	return asError(C.dps_dataplane_start_trace(n.dp, &conf, unsafe.SliceData(guest), C.uint32_t(len(guest)),
		unsafe.SliceData(wire), C.uint32_t(len(wire))))
}

// stopTrace ends the trace.
func (n *instance) stopTrace() error { return asError(C.dps_dataplane_stop_trace(n.dp)) }

// readTrace returns what the trace has recorded since the last call, a batch at most, and how many packets it has
// missed since its start.
func (n *instance) readTrace() (packets []graph.TracedPacket, missed uint64) {
	buf := make([]C.struct_trace_record, traceBatch)
	var m C.uint64_t
	got := C.dps_dataplane_read_trace(n.dp, unsafe.SliceData(buf), C.uint32_t(len(buf)), &m)
	for i := range buf[:got] {
		packets = append(packets, asTracedPacket(&buf[i]))
	}
	return packets, uint64(m)
}

func asTracedPacket(r *C.struct_trace_record) graph.TracedPacket {
	p := graph.TracedPacket{
		Time: time.Unix(0, int64(r.time_ns)), Port: uint16(r.port), Length: int(r.len),
		Frame: bytes.Clone(viewOf(r.frame[:r.snap])),
		Cut:   bool(r.cut),
	}
	if r.wire {
		p.Origin = graph.FromWire
	}
	for _, h := range r.hops[:r.nb_hops] {
		p.Hops = append(p.Hops, graph.TraceHop{
			Node: C.GoString(C.rte_node_id_to_name(h.node)), Begin: uint32(h.begin), End: uint32(h.end),
			Burst: int(h.burst),
		})
	}
	if r.has_flow {
		p.Flow = asTracedFlow(&r.flow, r.flow_flags)
	}
	return p
}

func asTracedFlow(f *C.struct_flow_info, flags C.uint8_t) *graph.TracedFlow {
	return &graph.TracedFlow{
		Flow: asFlow(f), Candidate: flags&C.FLOW_CANDIDATE != 0, Announced: flags&C.FLOW_KNOWN != 0,
	}
}
