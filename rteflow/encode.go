// SPDX-License-Identifier: Apache-2.0

package rteflow

/*
#include <rte_flow.h>
#include "flow.h"
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"syscall"
)

// native is the CPU's byte order, in which C reads numbers.
var native = binary.NativeEndian

// maxAge is what fits into the 24 bits of rte_flow_action_age.timeout.
const maxAge = 1<<24 - 1

// encoder writes rules as the flat bytes that flow.c reads; the layout is described in flow.h. It has room for all that a
// call of C needs, so that a call allocates nothing.
type encoder struct {
	buf []byte
	err C.struct_rf_error
}

var encoders = sync.Pool{New: func() any { return &encoder{buf: make([]byte, 0, 1024)} }}

// newEncoder returns an empty encoder, to be freed by the caller.
func newEncoder() *encoder {
	e := encoders.Get().(*encoder)
	e.buf = e.buf[:0]
	return e
}

// free gives the encoder, and the bytes that it has written, to others.
func (e *encoder) free() { encoders.Put(e) }

// grow appends n zeros and returns them, to be written to before the next call.
func (e *encoder) grow(n int) []byte {
	start := len(e.buf)
	e.buf = slices.Grow(e.buf, n)[:start+n]
	clear(e.buf[start:])
	return e.buf[start:]
}

// rule appends a rule's bytes for flow.c. The error is as if a driver had refused the rule.
func (e *encoder) rule(r Rule) *Error {
	head := e.grow(28)
	native.PutUint32(head, r.Group)
	native.PutUint32(head[4:], r.Priority)
	native.PutUint32(head[8:], flag(r.Ingress))
	native.PutUint32(head[12:], flag(r.Egress))
	native.PutUint32(head[16:], flag(r.Transfer))
	native.PutUint32(head[20:], uint32(len(r.Pattern)))
	native.PutUint32(head[24:], uint32(len(r.Actions)))
	for i, it := range r.Pattern {
		if err := e.item(it); err != nil {
			return invalid(ErrorItem, itemCause(r, i), err)
		}
	}
	for i, a := range r.Actions {
		if err := e.action(a); err != nil {
			return invalid(ErrorAction, actionCause(r, i, -1), err)
		}
	}
	return nil
}

func invalid(t ErrorType, cause string, err error) *Error {
	return &Error{Type: t, Message: err.Error(), Errno: syscall.EINVAL, Cause: cause}
}

// item writes kind, size, whether there is a range, and the header's spec, mask and last. Without any condition on
// a field the size is 0: spec, mask and last are NULL, which matches the protocol's presence.
func (e *encoder) item(it Item) error {
	const head = 12
	start := len(e.buf)
	b := e.grow(head + 3*maxHeader)
	l := layout{room: b[head:]}
	l.describe(it)
	if l.name == "" {
		return fmt.Errorf("%T is not an item of this package", it)
	}
	if l.err != nil {
		return l.err
	}
	native.PutUint32(b, l.kind)
	used := head
	if l.conditions > 0 {
		native.PutUint32(b[4:], uint32(l.size))
		used += 2 * l.size
	}
	if l.ranged {
		native.PutUint32(b[8:], 1)
		used += l.size
	}
	e.buf = e.buf[:start+used]
	return nil
}

// action writes kind, size and the configuration.
func (e *encoder) action(a Action) error {
	switch a := a.(type) {
	case Jump:
		native.PutUint32(e.conf(C.RTE_FLOW_ACTION_TYPE_JUMP, 4), a.Group)
	case Sample:
		return e.sample(a)
	case RawEncap:
		copy(e.conf(C.RTE_FLOW_ACTION_TYPE_RAW_ENCAP, len(a.Data)), a.Data)
	case RawDecap:
		copy(e.conf(C.RTE_FLOW_ACTION_TYPE_RAW_DECAP, len(a.Data)), a.Data)
	case SetMACSrc:
		copy(e.conf(C.RTE_FLOW_ACTION_TYPE_SET_MAC_SRC, 6), a.MAC[:])
	case SetMACDst:
		copy(e.conf(C.RTE_FLOW_ACTION_TYPE_SET_MAC_DST, 6), a.MAC[:])
	case SetIPv4Src:
		return putIPv4(e.conf(C.RTE_FLOW_ACTION_TYPE_SET_IPV4_SRC, 4), a.Addr)
	case SetIPv4Dst:
		return putIPv4(e.conf(C.RTE_FLOW_ACTION_TYPE_SET_IPV4_DST, 4), a.Addr)
	case SetIPv6Src:
		return putIPv6(e.conf(C.RTE_FLOW_ACTION_TYPE_SET_IPV6_SRC, 16), a.Addr)
	case SetIPv6Dst:
		return putIPv6(e.conf(C.RTE_FLOW_ACTION_TYPE_SET_IPV6_DST, 16), a.Addr)
	case SetTPSrc:
		binary.BigEndian.PutUint16(e.conf(C.RTE_FLOW_ACTION_TYPE_SET_TP_SRC, 2), a.Port)
	case SetTPDst:
		binary.BigEndian.PutUint16(e.conf(C.RTE_FLOW_ACTION_TYPE_SET_TP_DST, 2), a.Port)
	case PopVLAN:
		e.conf(C.RTE_FLOW_ACTION_TYPE_OF_POP_VLAN, 0)
	case PushVLAN:
		binary.BigEndian.PutUint16(e.conf(C.RTE_FLOW_ACTION_TYPE_OF_PUSH_VLAN, 2), a.EtherType)
	case SetMark:
		native.PutUint32(e.conf(C.RTE_FLOW_ACTION_TYPE_MARK, 4), a.ID)
	case SetTag:
		b := e.conf(C.RTE_FLOW_ACTION_TYPE_SET_TAG, 12)
		native.PutUint32(b, a.Data)
		native.PutUint32(b[4:], a.Mask)
		b[8] = a.Index
	case SetMeta:
		b := e.conf(C.RTE_FLOW_ACTION_TYPE_SET_META, 8)
		native.PutUint32(b, a.Data)
		native.PutUint32(b[4:], a.Mask)
	case DecTTL:
		e.conf(C.RTE_FLOW_ACTION_TYPE_DEC_TTL, 0)
	case Age:
		if a.Timeout > maxAge {
			return fmt.Errorf("timeout %d is more than %d seconds", a.Timeout, maxAge)
		}
		b := e.conf(C.RTE_FLOW_ACTION_TYPE_AGE, 12)
		native.PutUint32(b, a.Timeout)
		native.PutUint64(b[4:], a.Context)
	case Count:
		e.conf(C.RTE_FLOW_ACTION_TYPE_COUNT, 4) // the counter's ID: every rule has its own
	case Indirect:
		native.PutUint64(e.conf(C.RTE_FLOW_ACTION_TYPE_INDIRECT, 8), uint64(a.Handle))
	case Drop:
		e.conf(C.RTE_FLOW_ACTION_TYPE_DROP, 0)
	case Queue:
		native.PutUint16(e.conf(C.RTE_FLOW_ACTION_TYPE_QUEUE, 2), a.Index)
	case ToRepresentedPort:
		native.PutUint16(e.conf(C.RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT, 2), a.Port)
	case ToPortID:
		native.PutUint32(e.conf(C.RTE_FLOW_ACTION_TYPE_PORT_ID, 4), uint32(a.Port))
	default:
		return fmt.Errorf("%T is not an action of this package", a)
	}
	return nil
}

// conf appends an action of the kind, and returns the room for its configuration.
func (e *encoder) conf(kind uint32, size int) []byte {
	b := e.grow(8 + size)
	native.PutUint32(b, kind)
	native.PutUint32(b[4:], uint32(size))
	return b[8:]
}

// sample writes the ratio, the number of actions for the copy, and these.
func (e *encoder) sample(s Sample) error {
	b := e.conf(C.RTE_FLOW_ACTION_TYPE_SAMPLE, 8)
	native.PutUint32(b, s.Ratio)
	native.PutUint32(b[4:], uint32(len(s.Actions)))
	start := len(e.buf) - 8
	for i, a := range s.Actions {
		if _, ok := a.(Sample); ok {
			return fmt.Errorf("action %d: a sample within a sample", i)
		}
		if err := e.action(a); err != nil {
			return fmt.Errorf("action %d: %w", i, err)
		}
	}
	native.PutUint32(e.buf[start-4:], uint32(len(e.buf)-start))
	return nil
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
