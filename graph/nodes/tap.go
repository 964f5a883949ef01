// SPDX-License-Identifier: Apache-2.0

package nodes

/*
#include "control.h"
#include "mark.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"dpservice/graph"
	"dpservice/wire"
)

// C and Go have the same fields, bounds and mark.
var (
	_ [C.MAX_IFACES]struct{}     = [graph.MaxInterfaces]struct{}{}
	_ [C.MAX_ROUTES]struct{}     = [graph.MaxRoutes]struct{}{}
	_ [C.TAP_MAX_RULES]struct{}  = [graph.MaxTapRules]struct{}{}
	_ [C.TAP_MAX_HEADER]struct{} = [wire.VXLANCopyHeaderLen]struct{}{}
	_ [C.TAP_FIELDS]struct{}     = [wire.FieldICMPCode + 1]struct{}{}
	_ [C.DROP_REASONS]struct{}   = [wire.NumDropReasons]struct{}{}
	_ [C.MARK_PREFIX]struct{}    = [graph.MarkPrefix]struct{}{}
)

// setTap adds a tap, or replaces that of its port and side, and returns that one's last counters.
func (n *instance) setTap(t graph.Tap) (graph.TapCounters, error) {
	if len(t.Header) != wire.CopyHeaderLen && len(t.Header) != wire.VXLANCopyHeaderLen {
		return graph.TapCounters{}, fmt.Errorf("a header of %d bytes: %w", len(t.Header), graph.ErrInvalid)
	}
	if len(t.Rules) == 0 || len(t.Rules) > graph.MaxTapRules {
		return graph.TapCounters{}, fmt.Errorf("%d rules, want 1 to %d: %w", len(t.Rules), graph.MaxTapRules,
			graph.ErrInvalid)
	}
	conf := C.struct_tap_conf{
		port:       C.uint16_t(t.Port),
		side:       C.uint8_t(t.Side),
		out:        C.uint16_t(t.Out),
		inner:      C.bool(t.Inner),
		header_len: C.uint16_t(len(t.Header)),
		nb_rules:   C.uint16_t(len(t.Rules)),
	}
	putBytes(conf.header[:], t.Header)
	var conditions []C.struct_tap_condition
	for i, r := range t.Rules {
		conf.sample[i] = C.bool(r.Sample)
		for _, c := range r.Conditions {
			conditions = append(conditions, asCondition(i, c))
		}
	}
	var replaced C.struct_tap_counters
	rc := C.dps_dataplane_set_tap(n.dp, &conf, unsafe.SliceData(conditions), C.uint32_t(len(conditions)), &replaced)
	return asTapCounters(&replaced), asError(rc)
}

// removeTap removes a tap and returns its last counters.
func (n *instance) removeTap(port uint16, side graph.TapSide) (graph.TapCounters, error) {
	var c C.struct_tap_counters
	rc := C.dps_dataplane_remove_tap(n.dp, C.uint16_t(port), C.uint8_t(side), &c)
	return asTapCounters(&c), asError(rc)
}

// tapCounters returns the counters of a tap.
func (n *instance) tapCounters(port uint16, side graph.TapSide) (graph.TapCounters, error) {
	var c C.struct_tap_counters
	rc := C.dps_dataplane_tap_counters(n.dp, C.uint16_t(port), C.uint8_t(side), &c)
	return asTapCounters(&c), asError(rc)
}

func asCondition(rule int, c graph.TapCondition) C.struct_tap_condition {
	out := C.struct_tap_condition{rule: C.uint16_t(rule), field: C.uint8_t(c.Field)}
	putBytes(out.value[:], c.Value[:])
	putBytes(out.mask[:], c.Mask[:])
	return out
}

func asTapCounters(c *C.struct_tap_counters) graph.TapCounters {
	out := graph.TapCounters{Oversize: uint64(c.oversize), NoBuffer: uint64(c.no_buffer)}
	for _, r := range c.rules[:c.nb_rules] {
		out.Rules = append(out.Rules, graph.TapCount{Packets: uint64(r.packets), Bytes: uint64(r.bytes)})
	}
	return out
}
