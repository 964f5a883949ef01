// SPDX-License-Identifier: Apache-2.0

package rteflow

/*
#include <rte_flow.h>
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"syscall"
)

// maxAge is what fits into the 24 bits of rte_flow_action_age.timeout.
const maxAge = 1<<24 - 1

// encoder writes a rule as the flat bytes that flow.c reads; the layout is described in flow.h.
type encoder struct{ buf []byte }

// encode turns a rule into bytes for flow.c. The error is as if a driver had refused the rule.
func encode(r Rule) ([]byte, *Error) {
	e := encoder{make([]byte, 0, 512)}
	e.u32(r.Group, r.Priority, flag(r.Ingress), flag(r.Egress), flag(r.Transfer))
	e.u32(uint32(len(r.Pattern)), uint32(len(r.Actions)))
	for i, it := range r.Pattern {
		if err := e.item(it); err != nil {
			return nil, invalid(ErrorItem, itemCause(r, i), err)
		}
	}
	for i, a := range r.Actions {
		if err := e.action(a); err != nil {
			return nil, invalid(ErrorAction, actionCause(r, i, -1), err)
		}
	}
	return e.buf, nil
}

func invalid(t ErrorType, cause string, err error) *Error {
	return &Error{Type: t, Message: err.Error(), Errno: syscall.EINVAL, Cause: cause}
}

func (e *encoder) u32(values ...uint32) {
	for _, v := range values {
		e.buf = binary.NativeEndian.AppendUint32(e.buf, v)
	}
}

// item writes kind, size, whether there is a range, and the header's spec, mask and last. Without any condition on
// a field the size is 0: spec, mask and last are NULL, which matches the protocol's presence.
func (e *encoder) item(it Item) error {
	l := layoutOf(it)
	if l.name == "" {
		return fmt.Errorf("%T is not an item of this package", it)
	}
	if len(l.fields) == 0 {
		e.u32(l.kind, 0, 0)
		return nil
	}
	spec, mask, last := make([]byte, l.size), make([]byte, l.size), make([]byte, l.size)
	ranged := false
	for _, f := range l.fields {
		if f.err != nil {
			return fmt.Errorf("%s: %w", f.name, f.err)
		}
		copy(spec[f.offset:], f.spec)
		copy(mask[f.offset:], f.mask)
		if f.last == nil {
			copy(last[f.offset:], f.spec) // a range of one: a last below its spec is undefined
			continue
		}
		copy(last[f.offset:], f.last)
		ranged = true
	}
	e.u32(l.kind, uint32(l.size), flag(ranged))
	e.buf = append(e.buf, spec...)
	e.buf = append(e.buf, mask...)
	if ranged {
		e.buf = append(e.buf, last...)
	}
	return nil
}

// action writes kind, size and the configuration.
func (e *encoder) action(a Action) error {
	switch a := a.(type) {
	case Jump:
		e.conf(C.RTE_FLOW_ACTION_TYPE_JUMP, native32(a.Group))
	case Sample:
		return e.sample(a)
	case RawEncap:
		e.conf(C.RTE_FLOW_ACTION_TYPE_RAW_ENCAP, a.Data)
	case RawDecap:
		e.conf(C.RTE_FLOW_ACTION_TYPE_RAW_DECAP, a.Data)
	case SetMACSrc:
		e.conf(C.RTE_FLOW_ACTION_TYPE_SET_MAC_SRC, a.MAC[:])
	case SetMACDst:
		e.conf(C.RTE_FLOW_ACTION_TYPE_SET_MAC_DST, a.MAC[:])
	case DecTTL:
		e.conf(C.RTE_FLOW_ACTION_TYPE_DEC_TTL, nil)
	case Age:
		if a.Timeout > maxAge {
			return fmt.Errorf("timeout %d is more than %d seconds", a.Timeout, maxAge)
		}
		e.conf(C.RTE_FLOW_ACTION_TYPE_AGE, binary.NativeEndian.AppendUint64(native32(a.Timeout), a.Context))
	case Count:
		e.conf(C.RTE_FLOW_ACTION_TYPE_COUNT, native32(0))
	case Drop:
		e.conf(C.RTE_FLOW_ACTION_TYPE_DROP, nil)
	case Queue:
		e.conf(C.RTE_FLOW_ACTION_TYPE_QUEUE, binary.NativeEndian.AppendUint16(nil, a.Index))
	case ToRepresentedPort:
		e.conf(C.RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT, binary.NativeEndian.AppendUint16(nil, a.Port))
	case ToPortID:
		e.conf(C.RTE_FLOW_ACTION_TYPE_PORT_ID, native32(uint32(a.Port)))
	default:
		return fmt.Errorf("%T is not an action of this package", a)
	}
	return nil
}

func (e *encoder) conf(kind uint32, conf []byte) {
	e.u32(kind, uint32(len(conf)))
	e.buf = append(e.buf, conf...)
}

// sample writes the ratio, the number of actions for the copy, and these.
func (e *encoder) sample(s Sample) error {
	var inner encoder
	inner.u32(s.Ratio, uint32(len(s.Actions)))
	for i, a := range s.Actions {
		if _, ok := a.(Sample); ok {
			return fmt.Errorf("action %d: a sample within a sample", i)
		}
		if err := inner.action(a); err != nil {
			return fmt.Errorf("action %d: %w", i, err)
		}
	}
	e.conf(C.RTE_FLOW_ACTION_TYPE_SAMPLE, inner.buf)
	return nil
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
