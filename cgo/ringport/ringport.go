// SPDX-License-Identifier: Apache-2.0

// Package ringport makes DPDK ports whose other side is in Go's hands: tests give them to a NIC as its far sides. It
// also sends and receives single frames by any port. For tests: a cgo call per frame is slow.
package ringport

/*
#cgo pkg-config: libdpdk
#cgo CFLAGS: -DALLOW_EXPERIMENTAL_API -Wall -Wextra -Werror
#cgo LDFLAGS: -lrte_net_ring -lrte_bus_vdev
#include <stdlib.h>
#include <rte_bus_vdev.h>
#include "ringport.h"
*/
import "C"

import (
	"fmt"
	"syscall"
	"unsafe"

	"dpservice/cgo/mempool"
)

// MaxFrame is the longest frame that Receive takes.
const MaxFrame = 16 << 10

// Port is an ethdev made of rings, neither configured nor started. It lasts until EAL's clean-up.
type Port struct {
	ID   uint16
	port *C.struct_ringport
	buf  []byte
}

// EthdevName is what New calls the ethdev of a port.
func EthdevName(name string) string { return "net_ring_" + name }

// New makes a port. The frames that Send makes come from pool.
func New(name string, pool *mempool.Pool) (*Port, error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	port := (*C.struct_ringport)(C.calloc(1, C.sizeof_struct_ringport))
	if rc := C.ringport_open(port, cname, (*C.struct_rte_mempool)(pool.Ptr())); rc < 0 {
		C.free(unsafe.Pointer(port))
		return nil, fmt.Errorf("ringport: open %s: %w", name, syscall.Errno(-rc))
	}
	return &Port{ID: uint16(port.id), port: port, buf: make([]byte, MaxFrame)}, nil
}

// Send makes the port receive a frame, in buffers of segment bytes each; 0 is one buffer.
func (p *Port) Send(frame []byte, segment int) error {
	rc := C.ringport_send(p.port, bytesOf(frame), C.uint32_t(len(frame)), C.uint32_t(segment))
	return callError("send", p.ID, rc)
}

// Receive returns the next frame that was sent by the port, nil if there is none.
func (p *Port) Receive() ([]byte, error) {
	return received(p.ID, p.buf, C.ringport_receive(p.port, bytesOf(p.buf), MaxFrame))
}

// ReceiveFrom returns the next frame that a queue of any started port has received, nil if there is none. buf holds at
// least MaxFrame bytes.
func ReceiveFrom(port, queue uint16, buf []byte) ([]byte, error) {
	rc := C.ringport_burst_receive(C.uint16_t(port), C.uint16_t(queue), bytesOf(buf), C.uint32_t(len(buf)))
	return received(port, buf, rc)
}

// SendBy sends a frame by queue 0 of any started port.
func SendBy(port uint16, pool *mempool.Pool, frame []byte) error {
	rc := C.ringport_burst_send(C.uint16_t(port), 0, (*C.struct_rte_mempool)(pool.Ptr()), bytesOf(frame),
		C.uint32_t(len(frame)))
	return callError("send by", port, rc)
}

// NewPacket returns a packet, a struct rte_mbuf, with a frame's bytes, in buffers of segment bytes each; 0 is one
// buffer. It is the caller's.
func NewPacket(pool *mempool.Pool, frame []byte, segment int) (unsafe.Pointer, error) {
	m := C.ringport_make_packet((*C.struct_rte_mempool)(pool.Ptr()), bytesOf(frame), C.uint32_t(len(frame)),
		C.uint32_t(segment))
	if m == nil {
		return nil, fmt.Errorf("ringport: packet of %d bytes: %w", len(frame), syscall.ENOMEM)
	}
	return unsafe.Pointer(m), nil
}

// ReadPacket returns the bytes of a packet, a struct rte_mbuf, and frees it.
func ReadPacket(packet unsafe.Pointer) ([]byte, error) {
	buf := make([]byte, MaxFrame)
	rc := C.ringport_read_packet((*C.struct_rte_mbuf)(packet), bytesOf(buf), MaxFrame)
	if rc < 0 {
		return nil, fmt.Errorf("ringport: read packet: %w", syscall.Errno(-rc))
	}
	return buf[:rc], nil
}

// Attach probes a virtual device after EAL has started.
func Attach(name, args string) error {
	cname, cargs := C.CString(name), C.CString(args)
	defer C.free(unsafe.Pointer(cname))
	defer C.free(unsafe.Pointer(cargs))
	if rc := C.rte_vdev_init(cname, cargs); rc < 0 {
		return fmt.Errorf("attach %s,%s: %w", name, args, syscall.Errno(-rc))
	}
	return nil
}

func bytesOf(b []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.SliceData(b)) }

func received(port uint16, buf []byte, rc C.int) ([]byte, error) {
	if syscall.Errno(-rc) == syscall.EAGAIN {
		return nil, nil
	}
	if rc < 0 {
		return nil, callError("receive", port, rc)
	}
	return append([]byte{}, buf[:rc]...), nil
}

func callError(what string, port uint16, rc C.int) error {
	if rc < 0 {
		return fmt.Errorf("ringport: %s port %d: %w", what, port, syscall.Errno(-rc))
	}
	return nil
}
