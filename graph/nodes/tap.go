// SPDX-License-Identifier: Apache-2.0

package nodes

/*
#include "control.h"
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// The two sides count the same fields, and have the same bounds.
var (
	_ [C.TAP_MAX_RULES]struct{}  = [MaxTapRules]struct{}{}
	_ [C.TAP_MAX_HEADER]struct{} = [TapVXLANHeaderLen]struct{}{}
	_ [C.TAP_FIELDS]struct{}     = [numTapFields]struct{}{}
)

// SetTap adds a tap, or replaces that of its port and side, and returns that one's last counters.
func (n *Instance) SetTap(t Tap) (TapCounters, error) {
	if len(t.Header) != TapHeaderLen && len(t.Header) != TapVXLANHeaderLen {
		return TapCounters{}, fmt.Errorf("a header of %d bytes: %w", len(t.Header), ErrInvalid)
	}
	if len(t.Rules) == 0 || len(t.Rules) > MaxTapRules {
		return TapCounters{}, fmt.Errorf("%d rules, want 1 to %d: %w", len(t.Rules), MaxTapRules, ErrInvalid)
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
	rc := C.dataplane_set_tap(n.dp, &conf, unsafe.SliceData(conditions), C.uint32_t(len(conditions)), &replaced)
	return asTapCounters(&replaced), asError(rc)
}

// RemoveTap removes a tap and returns its last counters.
func (n *Instance) RemoveTap(port uint16, side TapSide) (TapCounters, error) {
	var c C.struct_tap_counters
	rc := C.dataplane_remove_tap(n.dp, C.uint16_t(port), C.uint8_t(side), &c)
	return asTapCounters(&c), asError(rc)
}

// TapCounters returns the counters of a tap.
func (n *Instance) TapCounters(port uint16, side TapSide) (TapCounters, error) {
	var c C.struct_tap_counters
	rc := C.dataplane_tap_counters(n.dp, C.uint16_t(port), C.uint8_t(side), &c)
	return asTapCounters(&c), asError(rc)
}

func asCondition(rule int, c TapCondition) C.struct_tap_condition {
	out := C.struct_tap_condition{rule: C.uint16_t(rule), field: C.uint8_t(c.Field)}
	putBytes(out.value[:], c.Value[:])
	putBytes(out.mask[:], c.Mask[:])
	return out
}

func asTapCounters(c *C.struct_tap_counters) TapCounters {
	out := TapCounters{Oversize: uint64(c.oversize), NoBuffer: uint64(c.no_buffer)}
	for _, r := range c.rules[:c.nb_rules] {
		out.Rules = append(out.Rules, TapCount{Packets: uint64(r.packets), Bytes: uint64(r.bytes)})
	}
	return out
}
