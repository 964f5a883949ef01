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
	"unsafe"
)

// native is the CPU's byte order, in which C reads numbers.
var native = binary.NativeEndian

// maxAge is what fits into the 24 bits of rte_flow_action_age.timeout.
const maxAge = 1<<24 - 1

// MaxRawEncap is the longest header that RawEncap takes, in bytes. net_mlx5 copies a longer one beyond its own buffer.
const MaxRawEncap = 132

// encoder writes rules into memory as C takes them, see flow.h. It has room for all that a call of C needs, so that a
// call allocates nothing.
type encoder struct {
	buf   []byte
	start int // of the last rule in buf
	err   C.struct_rf_error
}

var encoders = sync.Pool{New: func() any { return &encoder{buf: make([]byte, 0, 4096)} }}

// newEncoder returns an empty encoder, to be freed by the caller.
func newEncoder() *encoder {
	e := encoders.Get().(*encoder)
	e.buf = e.buf[:0]
	return e
}

// free gives the encoder, and what it has written, to others.
func (e *encoder) free() { encoders.Put(e) }

// take appends n zeros, and more up to where a struct can begin, and returns their offset in the rule.
func (e *encoder) take(n int) int {
	at := len(e.buf)
	e.buf = slices.Grow(e.buf, n+7)[:at+(n+7)&^7]
	clear(e.buf[at:])
	return at - e.start
}

// at is what the rule has from the offset on. It may move with the next take.
func (e *encoder) at(offset int) []byte { return e.buf[e.start+offset:] }

// structAt is the rule's struct at the offset. It may move with the next take.
func structAt[T any](e *encoder, offset int) *T { return (*T)(unsafe.Pointer(&e.buf[e.start+offset])) }

// rule appends a rule. Its error has the form of a driver's.
func (e *encoder) rule(r Rule) *Error {
	if r.Maker != nil {
		e.made(r.Maker)
		return nil
	}
	const items = C.sizeof_struct_rf_rule
	actions := items + (len(r.Pattern)+1)*C.sizeof_struct_rf_item
	e.start = len(e.buf)
	e.take(actions + (len(r.Actions)+1)*C.sizeof_struct_rf_action)
	for i, it := range r.Pattern {
		if err := e.item(items+i*C.sizeof_struct_rf_item, it); err != nil {
			return invalid(ErrorItem, itemCause(r, i), err)
		}
	}
	for i, a := range r.Actions {
		if err := e.action(actions+i*C.sizeof_struct_rf_action, a); err != nil {
			return invalid(ErrorAction, actionCause(r, i, -1), err)
		}
	}
	head := structAt[C.struct_rf_rule](e, 0)
	head.size = C.uint32_t(len(e.buf) - e.start)
	head.group, head.priority = C.uint32_t(r.Group), C.uint32_t(r.Priority)
	head.ingress, head.egress, head.transfer = flag(r.Ingress), flag(r.Egress), flag(r.Transfer)
	head.items, head.actions = items, C.uint32_t(actions)
	return nil
}

func invalid(t ErrorType, cause string, err error) *Error {
	return &Error{Type: t, Message: err.Error(), Errno: syscall.EINVAL, Cause: cause}
}

// item writes the item at the offset, and what it points at. Without any condition on a field it points at nothing,
// which matches the protocol's presence.
func (e *encoder) item(at int, it Item) error {
	spec := e.take(3 * C.RF_ROOM)
	mask, last := spec+C.RF_ROOM, spec+2*C.RF_ROOM
	l := layout{room: e.at(spec)}
	l.describe(it)
	if l.name == "" {
		return fmt.Errorf("%T is not an item of this package", it)
	}
	if l.err != nil {
		return l.err
	}
	item := structAt[C.struct_rf_item](e, at)
	item._type = C.uint32_t(l.kind)
	end := spec
	if l.conditions > 0 {
		item.spec, item.mask = C.uint64_t(spec), C.uint64_t(mask)
		end = last
	}
	if l.ranged() {
		l.closeRanges()
		item.last = C.uint64_t(last)
		end = last + C.RF_ROOM
	}
	e.buf = e.buf[:e.start+end]
	return nil
}

// action writes the action at the offset, and what it points at.
func (e *encoder) action(at int, a Action) error {
	switch a := a.(type) {
	case Jump:
		native.PutUint32(e.conf(at, C.RTE_FLOW_ACTION_TYPE_JUMP), a.Group)
	case Sample:
		return e.sample(at, a)
	case RawEncap:
		if len(a.Data) > MaxRawEncap {
			return fmt.Errorf("a header of %d bytes is longer than the %d that a NIC takes", len(a.Data), MaxRawEncap)
		}
		data := e.data(a.Data)
		*confAs[C.struct_rf_raw_encap](e, at, C.RTE_FLOW_ACTION_TYPE_RAW_ENCAP) = C.struct_rf_raw_encap{
			data: data, size: C.uint64_t(len(a.Data)),
		}
	case RawDecap:
		data := e.data(a.Data)
		*confAs[C.struct_rf_raw_decap](e, at, C.RTE_FLOW_ACTION_TYPE_RAW_DECAP) = C.struct_rf_raw_decap{
			data: data, size: C.uint64_t(len(a.Data)),
		}
	case SetMACSrc:
		copy(e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_MAC_SRC), a.MAC[:])
	case SetMACDst:
		copy(e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_MAC_DST), a.MAC[:])
	case SetIPv4Src:
		return putIPv4(e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_IPV4_SRC), a.Addr)
	case SetIPv4Dst:
		return putIPv4(e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_IPV4_DST), a.Addr)
	case SetIPv6Src:
		return putIPv6(e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_IPV6_SRC), a.Addr)
	case SetIPv6Dst:
		return putIPv6(e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_IPV6_DST), a.Addr)
	case SetTPSrc:
		binary.BigEndian.PutUint16(e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_TP_SRC), a.Port)
	case SetTPDst:
		binary.BigEndian.PutUint16(e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_TP_DST), a.Port)
	case PopVLAN:
		e.kind(at, C.RTE_FLOW_ACTION_TYPE_OF_POP_VLAN)
	case PushVLAN:
		binary.BigEndian.PutUint16(e.conf(at, C.RTE_FLOW_ACTION_TYPE_OF_PUSH_VLAN), a.EtherType)
	case SetMark:
		native.PutUint32(e.conf(at, C.RTE_FLOW_ACTION_TYPE_MARK), a.ID)
	case SetTag:
		b := e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_TAG)
		native.PutUint32(b, a.Data)
		native.PutUint32(b[4:], a.Mask)
		b[8] = a.Index
	case SetMeta:
		b := e.conf(at, C.RTE_FLOW_ACTION_TYPE_SET_META)
		native.PutUint32(b, a.Data)
		native.PutUint32(b[4:], a.Mask)
	case DecTTL:
		e.kind(at, C.RTE_FLOW_ACTION_TYPE_DEC_TTL)
	case Age:
		if a.Timeout > maxAge {
			return fmt.Errorf("timeout %d is more than %d seconds", a.Timeout, maxAge)
		}
		b := e.conf(at, C.RTE_FLOW_ACTION_TYPE_AGE)
		native.PutUint32(b, a.Timeout)
		native.PutUint64(b[8:], a.Context)
	case Count:
		e.conf(at, C.RTE_FLOW_ACTION_TYPE_COUNT) // the counter's ID is 0: every rule has its own
	case Indirect:
		e.kind(at, C.RTE_FLOW_ACTION_TYPE_INDIRECT).conf = C.uint64_t(a.Handle)
	case Drop:
		e.kind(at, C.RTE_FLOW_ACTION_TYPE_DROP)
	case Queue:
		native.PutUint16(e.conf(at, C.RTE_FLOW_ACTION_TYPE_QUEUE), a.Index)
	case ToRepresentedPort:
		native.PutUint16(e.conf(at, C.RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT), a.Port)
	case ToPortID:
		native.PutUint32(e.conf(at, C.RTE_FLOW_ACTION_TYPE_PORT_ID)[4:], uint32(a.Port))
	default:
		return fmt.Errorf("%T is not an action of this package", a)
	}
	return nil
}

// kind makes the action at the offset one of the kind, without a configuration.
func (e *encoder) kind(at int, kind uint32) *C.struct_rf_action {
	a := structAt[C.struct_rf_action](e, at)
	a._type = C.uint32_t(kind)
	return a
}

// conf makes the action at the offset one of the kind, and returns its configuration, to be filled before the next
// take.
func (e *encoder) conf(at int, kind uint32) []byte {
	conf := e.take(C.RF_ROOM)
	e.kind(at, kind).conf = C.uint64_t(conf)
	return e.at(conf)
}

// confAs is conf with the configuration as a struct.
func confAs[T any](e *encoder, at int, kind uint32) *T {
	return (*T)(unsafe.Pointer(unsafe.SliceData(e.conf(at, kind))))
}

// data writes a header's bytes, and returns their offset.
func (e *encoder) data(header []byte) C.uint64_t {
	at := e.take(len(header))
	copy(e.at(at), header)
	return C.uint64_t(at)
}

// sample writes the ratio and the actions for the copy.
func (e *encoder) sample(at int, s Sample) error {
	actions := e.take((len(s.Actions) + 1) * C.sizeof_struct_rf_action)
	*confAs[C.struct_rf_sample](e, at, C.RTE_FLOW_ACTION_TYPE_SAMPLE) = C.struct_rf_sample{
		ratio: C.uint32_t(s.Ratio), actions: C.uint64_t(actions),
	}
	for i, a := range s.Actions {
		if _, ok := a.(Sample); ok {
			return fmt.Errorf("action %d: a sample within a sample", i)
		}
		if err := e.action(actions+i*C.sizeof_struct_rf_action, a); err != nil {
			return fmt.Errorf("action %d: %w", i, err)
		}
	}
	return nil
}

func flag(b bool) C.uint32_t {
	if b {
		return 1
	}
	return 0
}
