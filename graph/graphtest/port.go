// SPDX-License-Identifier: Apache-2.0

// Package graphtest gives tests ports whose far side is in the test's hands: what it sends the graph receives, and the
// other way round.
package graphtest

/*
#cgo pkg-config: libdpdk
#cgo CFLAGS: -DALLOW_EXPERIMENTAL_API -Wall -Wextra -Werror
#cgo LDFLAGS: -lrte_net_ring
#include <stdlib.h>
#include <rte_malloc.h>
#include "port.h"
*/
import "C"

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"dpservice/cgo/mempool"
	"dpservice/cgo/ringport"
)

// Port is a DPDK port made of rings, started with one or more queues.
type Port struct {
	ID   uint16
	p    *C.struct_test_port
	pool *mempool.Pool
}

// NewPort makes and starts a port. It lasts until EAL's clean-up.
func NewPort(name string, queues int, pool *mempool.Pool) (*Port, error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	var rc C.int
	p := C.test_port_create(cname, C.uint16_t(queues), (*C.struct_rte_mempool)(pool.Ptr()), &rc)
	if p == nil {
		return nil, fmt.Errorf("port %s: %w", name, syscall.Errno(-rc))
	}
	return &Port{ID: uint16(p.id), p: p, pool: pool}, nil
}

// Send makes the graph receive a frame by a queue. Its bytes are spread over buffers of segment bytes; 0 is one buffer.
func (p *Port) Send(queue int, frame []byte, segment int) error {
	return p.send(queue, segment, frame)
}

// SendBurst makes the graph find all frames at once.
func (p *Port) SendBurst(queue int, frames [][]byte) error { return p.send(queue, 0, frames...) }

func (p *Port) send(queue, segment int, frames ...[]byte) error {
	packets := make([]*C.struct_rte_mbuf, 0, len(frames))
	for _, f := range frames {
		m, err := ringport.NewPacket(p.pool, f, segment)
		if err != nil {
			C.rte_pktmbuf_free_bulk(unsafe.SliceData(packets), C.uint(len(packets)))
			return err
		}
		packets = append(packets, (*C.struct_rte_mbuf)(m))
	}
	rc := C.test_port_send(p.p, C.uint16_t(queue), unsafe.SliceData(packets), C.uint32_t(len(packets)))
	if rc < 0 {
		return fmt.Errorf("send %d frames: %w", len(frames), syscall.Errno(-rc))
	}
	return nil
}

// Receive returns the next frame that the graph has sent by a queue; nil if there is none.
func (p *Port) Receive(queue int) []byte {
	m := C.test_port_receive(p.p, C.uint16_t(queue))
	if m == nil {
		return nil
	}
	frame, err := ringport.ReadPacket(unsafe.Pointer(m))
	if err != nil {
		return nil
	}
	return frame
}

// Fill takes all room of a queue towards the test with copies of a frame, so that the port takes nothing more.
func (p *Port) Fill(queue int) (int, error) {
	n := C.test_port_fill(p.p, C.uint16_t(queue))
	if n < 0 {
		return 0, fmt.Errorf("fill queue %d: %w", queue, syscall.Errno(-n))
	}
	return int(n), nil
}

// Hold keeps the worker that receives by a queue in the driver until it is let go, and returns when it is there.
func (p *Port) Hold(queue int) (letGo func()) {
	C.test_port_hold(p.p, C.uint16_t(queue), true)
	for !C.test_port_is_held(p.p, C.uint16_t(queue)) {
		time.Sleep(time.Millisecond)
	}
	return func() { C.test_port_hold(p.p, C.uint16_t(queue), false) }
}

// Available is the number of a pool's buffers that nobody holds.
func Available(pool *mempool.Pool) int {
	return int(C.rte_mempool_avail_count((*C.struct_rte_mempool)(pool.Ptr())))
}

// HeapInUse is the number of bytes that are allocated in DPDK's heap.
func HeapInUse() int {
	var stats C.struct_rte_malloc_socket_stats
	if C.rte_malloc_get_socket_stats(0, &stats) < 0 {
		return -1
	}
	return int(stats.heap_allocsz_bytes)
}

// FillHeap takes all of DPDK's heap, but for scraps, until it is given back.
func FillHeap() (giveBack func()) {
	var blocks []unsafe.Pointer
	for size := C.size_t(1 << 30); size >= 64; size /= 2 {
		for block := C.rte_malloc(nil, size, 0); block != nil; block = C.rte_malloc(nil, size, 0) {
			blocks = append(blocks, block)
		}
	}
	return func() {
		for _, block := range blocks {
			C.rte_free(block)
		}
	}
}
