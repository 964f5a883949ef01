// SPDX-License-Identifier: Apache-2.0

// Package mempool allocates pools of packet buffers.
package mempool

/*
#cgo pkg-config: libdpdk
#cgo CFLAGS: -DALLOW_EXPERIMENTAL_API -Wall -Wextra -Werror
#include <stdlib.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

static struct rte_mempool *
create(const char *name, unsigned int n, unsigned int cache, uint16_t priv,
       uint16_t room, int *err)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create(name, n, cache, priv,
							   room, SOCKET_ID_ANY);

	*err = pool == NULL ? rte_errno : 0;
	return pool;
}
*/
import "C"

import (
	"fmt"
	"math"
	"syscall"
	"unsafe"
)

// DataRoom holds a frame of 1500 bytes of payload behind the headroom; it is what most applications use.
const DataRoom = C.RTE_MBUF_DEFAULT_BUF_SIZE

// Pool is a pool of packet buffers (mbufs).
type Pool struct{ p *C.struct_rte_mempool }

// NewPktmbuf makes a pool of n buffers with dataRoom bytes each, headroom included, privSize bytes of private data
// and a cache of cache buffers for each lcore. A pool's name is unique in the process.
func NewPktmbuf(name string, n, cache, privSize, dataRoom int) (*Pool, error) {
	if err := checkSizes(n, cache, privSize, dataRoom); err != nil {
		return nil, fmt.Errorf("mempool %q: %w", name, err)
	}
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	var errno C.int
	p := C.create(cname, C.uint(n), C.uint(cache), C.uint16_t(privSize), C.uint16_t(dataRoom), &errno)
	if p == nil {
		return nil, fmt.Errorf("mempool %q: create with %d buffers: %w", name, n, syscall.Errno(errno))
	}
	return &Pool{p}, nil
}

// Free gives the pool's memory back. No buffer may be in use. A nil or freed pool is left alone.
func (p *Pool) Free() {
	if p == nil {
		return
	}
	C.rte_mempool_free(p.p)
	p.p = nil
}

// Ptr is the struct rte_mempool, for other packages' C calls.
func (p *Pool) Ptr() unsafe.Pointer { return unsafe.Pointer(p.p) }

// Available is the number of buffers not in use.
func (p *Pool) Available() int { return int(C.rte_mempool_avail_count(p.p)) }

func checkSizes(n, cache, privSize, dataRoom int) error {
	for _, s := range []struct {
		what     string
		val, max int
	}{
		{"buffers", n, math.MaxUint32},
		{"cache", cache, math.MaxUint32},
		{"private size", privSize, math.MaxUint16},
		{"data room", dataRoom, math.MaxUint16},
	} {
		if s.val < 0 || s.val > s.max {
			return fmt.Errorf("%s %d is not within 0..%d", s.what, s.val, s.max)
		}
	}
	return nil
}
