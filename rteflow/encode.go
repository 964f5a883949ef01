// SPDX-License-Identifier: Apache-2.0

package rteflow

/*
#include <rte_flow.h>
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
)

// maxAge is what fits into the 24 bits of rte_flow_action_age.timeout.
const maxAge = 1<<24 - 1

// encoder writes rules as the flat bytes that flow.c reads; the layout is described in flow.h.
type encoder struct {
	buf    []byte
	layout layout
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

// rule appends a rule's bytes for flow.c. The error is as if a driver had refused the rule.
func (e *encoder) rule(r Rule) *Error {
	e.u32(r.Group, r.Priority, flag(r.Ingress), flag(r.Egress), flag(r.Transfer))
	e.u32(uint32(len(r.Pattern)), uint32(len(r.Actions)))
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

func (e *encoder) u32(values ...uint32) {
	for _, v := range values {
		e.buf = binary.NativeEndian.AppendUint32(e.buf, v)
	}
}

// item writes kind, size, whether there is a range, and the header's spec, mask and last. Without any condition on
// a field the size is 0: spec, mask and last are NULL, which matches the protocol's presence.
func (e *encoder) item(it Item) error {
	l := &e.layout
	l.describe(it)
	if l.name == "" {
		return fmt.Errorf("%T is not an item of this package", it)
	}
	for i := range l.fields() {
		if f := &l.room[i]; f.err != nil {
			return fmt.Errorf("%s: %w", f.name, f.err)
		}
	}
	if l.count == 0 {
		e.u32(l.kind, 0, 0)
		return nil
	}
	e.u32(l.kind, uint32(l.size), flag(l.ranged))
	e.buf = append(e.buf, l.spec[:l.size]...)
	e.buf = append(e.buf, l.mask[:l.size]...)
	if l.ranged {
		e.buf = append(e.buf, l.last[:l.size]...)
	}
	return nil
}

// action writes kind, size and the configuration.
func (e *encoder) action(a Action) error {
	kind, known := actionKind(a)
	if !known {
		return fmt.Errorf("%T is not an action of this package", a)
	}
	e.u32(kind, 0)
	start := len(e.buf)
	if err := e.conf(a); err != nil {
		return err
	}
	binary.NativeEndian.PutUint32(e.buf[start-4:], uint32(len(e.buf)-start))
	return nil
}

func actionKind(a Action) (kind uint32, known bool) {
	switch a.(type) {
	case Jump:
		return C.RTE_FLOW_ACTION_TYPE_JUMP, true
	case Sample:
		return C.RTE_FLOW_ACTION_TYPE_SAMPLE, true
	case RawEncap:
		return C.RTE_FLOW_ACTION_TYPE_RAW_ENCAP, true
	case RawDecap:
		return C.RTE_FLOW_ACTION_TYPE_RAW_DECAP, true
	case SetMACSrc:
		return C.RTE_FLOW_ACTION_TYPE_SET_MAC_SRC, true
	case SetMACDst:
		return C.RTE_FLOW_ACTION_TYPE_SET_MAC_DST, true
	case SetIPv4Src:
		return C.RTE_FLOW_ACTION_TYPE_SET_IPV4_SRC, true
	case SetIPv4Dst:
		return C.RTE_FLOW_ACTION_TYPE_SET_IPV4_DST, true
	case SetIPv6Src:
		return C.RTE_FLOW_ACTION_TYPE_SET_IPV6_SRC, true
	case SetIPv6Dst:
		return C.RTE_FLOW_ACTION_TYPE_SET_IPV6_DST, true
	case SetTPSrc:
		return C.RTE_FLOW_ACTION_TYPE_SET_TP_SRC, true
	case SetTPDst:
		return C.RTE_FLOW_ACTION_TYPE_SET_TP_DST, true
	case PopVLAN:
		return C.RTE_FLOW_ACTION_TYPE_OF_POP_VLAN, true
	case PushVLAN:
		return C.RTE_FLOW_ACTION_TYPE_OF_PUSH_VLAN, true
	case SetMark:
		return C.RTE_FLOW_ACTION_TYPE_MARK, true
	case DecTTL:
		return C.RTE_FLOW_ACTION_TYPE_DEC_TTL, true
	case Age:
		return C.RTE_FLOW_ACTION_TYPE_AGE, true
	case Count:
		return C.RTE_FLOW_ACTION_TYPE_COUNT, true
	case Indirect:
		return C.RTE_FLOW_ACTION_TYPE_INDIRECT, true
	case Drop:
		return C.RTE_FLOW_ACTION_TYPE_DROP, true
	case Queue:
		return C.RTE_FLOW_ACTION_TYPE_QUEUE, true
	case ToRepresentedPort:
		return C.RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT, true
	case ToPortID:
		return C.RTE_FLOW_ACTION_TYPE_PORT_ID, true
	default:
		return 0, false
	}
}

// conf writes an action's configuration. PopVLAN, DecTTL and Drop have none.
func (e *encoder) conf(a Action) error {
	switch a := a.(type) {
	case Jump:
		e.u32(a.Group)
	case Sample:
		return e.sample(a)
	case RawEncap:
		e.buf = append(e.buf, a.Data...)
	case RawDecap:
		e.buf = append(e.buf, a.Data...)
	case SetMACSrc:
		e.buf = append(e.buf, a.MAC[:]...)
	case SetMACDst:
		e.buf = append(e.buf, a.MAC[:]...)
	case SetIPv4Src:
		return e.addr(a.Addr, &ipv4Codec)
	case SetIPv4Dst:
		return e.addr(a.Addr, &ipv4Codec)
	case SetIPv6Src:
		return e.addr(a.Addr, &ipv6Codec)
	case SetIPv6Dst:
		return e.addr(a.Addr, &ipv6Codec)
	case SetTPSrc:
		e.buf = binary.BigEndian.AppendUint16(e.buf, a.Port)
	case SetTPDst:
		e.buf = binary.BigEndian.AppendUint16(e.buf, a.Port)
	case PushVLAN:
		e.buf = binary.BigEndian.AppendUint16(e.buf, a.EtherType)
	case SetMark:
		e.u32(a.ID)
	case Age:
		if a.Timeout > maxAge {
			return fmt.Errorf("timeout %d is more than %d seconds", a.Timeout, maxAge)
		}
		e.u32(a.Timeout)
		e.buf = binary.NativeEndian.AppendUint64(e.buf, a.Context)
	case Count:
		e.u32(0) // the counter's ID; every rule has its own
	case Indirect:
		e.buf = binary.NativeEndian.AppendUint64(e.buf, uint64(a.Handle))
	case Queue:
		e.buf = binary.NativeEndian.AppendUint16(e.buf, a.Index)
	case ToRepresentedPort:
		e.buf = binary.NativeEndian.AppendUint16(e.buf, a.Port)
	case ToPortID:
		e.u32(uint32(a.Port))
	}
	return nil
}

func (e *encoder) addr(a netip.Addr, c *codec[netip.Addr]) error {
	start := len(e.buf)
	for range c.size {
		e.buf = append(e.buf, 0)
	}
	return c.put(e.buf[start:], a)
}

// sample writes the ratio, the number of actions for the copy, and these.
func (e *encoder) sample(s Sample) error {
	e.u32(s.Ratio, uint32(len(s.Actions)))
	for i, a := range s.Actions {
		if _, ok := a.(Sample); ok {
			return fmt.Errorf("action %d: a sample within a sample", i)
		}
		if err := e.action(a); err != nil {
			return fmt.Errorf("action %d: %w", i, err)
		}
	}
	return nil
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
