// SPDX-License-Identifier: Apache-2.0

package nodes

/*
#include "control.h"
*/
import "C"

import (
	"fmt"

	"dpservice/graph"
)

// explain asks the workers what they would do with a packet.
func (n *instance) explain(q graph.Question) (graph.Answer, error) {
	if q.ID == 0 && (!q.Src.IsValid() || q.Src.Is4() != q.Dst.Is4()) {
		return graph.Answer{}, fmt.Errorf("from %v to %v: %w", q.Src, q.Dst, graph.ErrInvalid)
	}
	c := asQuestion(q)
	var a C.struct_answer
	if err := asError(C.dps_dataplane_explain(n.dp, &c, &a)); err != nil {
		return graph.Answer{}, err
	}
	answer := graph.Answer{
		Stale: bool(a.stale), Node: C.GoString(&a.node[0]), Next: asFlow(&a.next), MTU: uint16(a.mtu),
		Offloadable: bool(a.offloadable),
	}
	if a.known {
		answer.Flow = asTracedFlow(&a.flow, a.flow_flags)
	}
	return answer, nil
}

func asQuestion(q graph.Question) C.struct_question {
	c := C.struct_question{
		id: C.uint64_t(q.ID), port: C.uint16_t(q.Port), sport: C.uint16_t(q.SrcPort), dport: C.uint16_t(q.DstPort),
		proto: C.uint8_t(q.Proto), ipv6: C.bool(q.Src.Is6()), wire: C.bool(q.Origin == graph.FromWire),
	}
	putAddr(c.src[:], q.Src)
	putAddr(c.dst[:], q.Dst)
	putAddr(c.outer[:], q.Underlay)
	putAddr(c.peer[:], q.Peer)
	return c
}
