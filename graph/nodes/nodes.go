// SPDX-License-Identifier: Apache-2.0

// Package nodes is the packet graph: its control side, and the C nodes that handle the packets. Package graph has the
// values that it takes and gives.
package nodes

/*
#cgo pkg-config: libdpdk
#cgo CFLAGS: -D_GNU_SOURCE -DALLOW_EXPERIMENTAL_API -Wall -Wextra -Werror
#include <stdlib.h>
#include "control.h"
#include "mark.h"
*/
import "C"

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"dpservice/graph"
	"dpservice/wire"
)

const (
	maxNodes    = 256
	readBatch   = 64
	eventBatch  = 1024 // so many that handing them over hardly counts
	flowBatch   = 256
	puntBufSize = 256 << 10
)

// instance is a dataplane: workers with their graphs and tables. Its methods are not safe for concurrent use, but for
// inject, readFlows, stats, dot, and a puntReader and an eventReader each.
type instance struct{ dp *C.struct_dataplane }

// create allocates an instance. On error nothing stays allocated.
func create(cfg Config) (*instance, error) {
	if len(cfg.Ports) > C.RTE_MAX_ETHPORTS || len(cfg.Workers) > C.RTE_MAX_LCORE {
		return nil, fmt.Errorf("%d ports, %d workers: %w", len(cfg.Ports), len(cfg.Workers), graph.ErrInvalid)
	}
	name := C.CString(cfg.Name)
	defer C.free(unsafe.Pointer(name))
	conf := (*C.struct_dataplane_conf)(C.calloc(1, C.sizeof_struct_dataplane_conf))
	defer C.free(unsafe.Pointer(conf))
	conf.pool = (*C.struct_rte_mempool)(cfg.Pool.Ptr())
	conf.name = name
	conf.flow_capacity = C.uint32_t(cfg.FlowCapacity)
	conf.punt_rate = C.uint32_t(cfg.PuntRate)
	conf.punt_burst = C.uint32_t(cfg.PuntBurst)
	putAddr(conf.node_ip[:], cfg.NodeIP)
	conf.nb_ports = C.uint16_t(len(cfg.Ports))
	conf.nb_workers = C.uint16_t(len(cfg.Workers))
	if cfg.Offload {
		conf.offload = 1
	}
	conf.timeouts_ms = asTimeouts(cfg.Timeouts)
	for i, p := range cfg.Ports {
		if p.Name == "" || len(p.Name) >= C.PORT_NAME_SIZE {
			return nil, fmt.Errorf("port name %q: %w", p.Name, graph.ErrInvalid)
		}
		conf.ports[i] = C.struct_port{id: C.uint16_t(p.ID), vf: C.bool(p.VF), pf: C.uint16_t(p.PF), mtu: C.uint16_t(p.MTU)}
		putString(conf.ports[i].name[:], p.Name)
	}
	for i, lcore := range cfg.Workers {
		conf.lcores[i] = C.uint32_t(lcore)
	}
	var rc C.int
	dp := C.dps_dataplane_create(conf, &rc)
	if dp == nil {
		return nil, asError(rc)
	}
	return &instance{dp}, nil
}

// free gives everything back. The workers have been stopped, and no method is running.
func (n *instance) free() {
	C.dps_dataplane_free(n.dp)
	n.dp = nil
}

// start launches the workers. The ports have been started, with a queue for each worker.
func (n *instance) start() error { return asError(C.dps_dataplane_start(n.dp)) }

// stop ends the workers.
func (n *instance) stop() { C.dps_dataplane_stop(n.dp) }

// setTimeouts changes how long flows last without a packet, also those that there are.
func (n *instance) setTimeouts(t graph.Timeouts) error {
	ms := asTimeouts(t)
	return asError(C.dps_dataplane_set_timeouts(n.dp, &ms[0]))
}

func asTimeouts(t graph.Timeouts) (ms [C.FLOW_TIMEOUTS]C.uint32_t) {
	for i, d := range []time.Duration{t.TCPNew, t.TCPEstablished, t.TCPClosing, t.UDP, t.ICMP, t.Other} {
		ms[i] = C.uint32_t(d.Milliseconds())
	}
	return ms
}

// ping waits until each worker has answered.
func (n *instance) ping() error { return asError(C.dps_dataplane_ping(n.dp)) }

// setInterface adds or replaces an interface.
func (n *instance) setInterface(i graph.Interface) error {
	c := C.struct_iface{
		index:       C.uint16_t(i.Index),
		port:        C.uint16_t(i.Port),
		vni:         C.uint32_t(i.VNI),
		has_ipv4:    C.bool(i.IPv4.IsValid()),
		has_ipv6:    C.bool(i.IPv6.IsValid()),
		any_peer:    C.bool(i.AnyPeer),
		gateway_mac: asMAC(i.GatewayMAC),
		guest_mac:   asMAC(i.GuestMAC),
	}
	putAddr(c.ipv4[:], i.IPv4)
	putAddr(c.ipv6[:], i.IPv6)
	putAddr(c.underlay[:], i.Underlay)
	putAddr(c.gateway_ipv6[:], i.GatewayIPv6)
	return asError(C.dps_dataplane_set_iface(n.dp, &c))
}

// deleteInterface removes an interface.
func (n *instance) deleteInterface(index uint16) error {
	return asError(C.dps_dataplane_delete_iface(n.dp, C.uint16_t(index)))
}

// addRoute adds a route; its prefix is masked.
func (n *instance) addRoute(vni uint32, p netip.Prefix, hop graph.NextHop) error {
	r := asRoute(vni, p)
	putAddr(r.next_hop[:], hop.Underlay)
	return asError(C.dps_dataplane_add_route(n.dp, &r))
}

// deleteRoute removes a route.
func (n *instance) deleteRoute(vni uint32, p netip.Prefix) error {
	r := asRoute(vni, p)
	return asError(C.dps_dataplane_delete_route(n.dp, &r))
}

// setUplink sets an uplink's addressing.
func (n *instance) setUplink(u graph.Uplink) error {
	c := C.struct_uplink{port: C.uint16_t(u.Port), mac: asMAC(u.MAC), router_mac: asMAC(u.RouterMAC),
		link_up: C.bool(u.LinkUp)}
	return asError(C.dps_dataplane_set_uplink(n.dp, &c))
}

// setTunnel gives a mark its meaning.
func (n *instance) setTunnel(mark uint16, t graph.Tunnel) error {
	c := C.struct_tunnel{mark: C.uint16_t(mark), iface: C.uint16_t(t.Interface), any_peer: C.bool(!t.Peer.IsValid())}
	putAddr(c.underlay[:], t.Underlay)
	putAddr(c.peer[:], t.Peer)
	return asError(C.dps_dataplane_set_tunnel(n.dp, &c))
}

// flowChange is what becomes of flows.
type flowChange uint32

// The changes of flows.
const (
	onload  flowChange = C.FLOW_CHANGE_ONLOAD  // hardware forwards them no longer: their next packets announce them again
	offload flowChange = C.FLOW_CHANGE_OFFLOAD // hardware forwards them
	remove  flowChange = C.FLOW_CHANGE_DELETE  // they end
)

// changeFlows does the same to all flows with these ids. An error is a graph.FlowErrors.
func (n *instance) changeFlows(change flowChange, ids []uint64) error {
	results := make([]C.int, len(ids))
	C.dps_dataplane_change_flows(n.dp, uint32(change), (*C.uint64_t)(unsafe.SliceData(ids)), unsafe.SliceData(results),
		C.uint32_t(len(ids)))
	var failed graph.FlowErrors
	for i, rc := range results {
		if rc < 0 {
			if failed == nil {
				failed = graph.FlowErrors{}
			}
			failed[ids[i]] = asError(rc)
		}
	}
	if failed == nil {
		return nil
	}
	return failed
}

// inject sends a frame out of a port.
func (n *instance) inject(port uint16, frame []byte) error {
	return asError(C.dps_dataplane_inject(n.dp, C.uint16_t(port), unsafe.Pointer(unsafe.SliceData(frame)),
		C.uint32_t(len(frame))))
}

// readFlows returns up to limit flows from cursor on, and the cursor behind them; 0 is the beginning and the end.
func (n *instance) readFlows(cursor uint64, limit int) ([]graph.Flow, uint64) {
	var flows []graph.Flow
	buf := make([]C.struct_flow_info, min(limit, flowBatch))
	for len(flows) < limit {
		c := C.uint64_t(cursor)
		want := min(limit-len(flows), len(buf))
		got := C.dps_dataplane_read_flows(n.dp, &c, unsafe.SliceData(buf), C.uint32_t(want))
		for i := range buf[:got] {
			flows = append(flows, asFlow(&buf[i]))
		}
		if cursor = uint64(c); cursor == 0 {
			break
		}
	}
	return flows, cursor
}

// countFlows counts the flows; a class without flows is left out.
func (n *instance) countFlows() map[graph.FlowClass]int {
	var c [C.FLOW_STATES][2]C.uint32_t
	C.dps_dataplane_count_flows(n.dp, &c[0])
	counts := map[graph.FlowClass]int{}
	for state, byOffload := range c {
		for i, flows := range byOffload {
			if flows > 0 {
				counts[graph.FlowClass{State: graph.FlowState(state), Offloaded: i == 1}] = int(flows)
			}
		}
	}
	return counts
}

// generation is the number of the configuration.
func (n *instance) generation() uint32 { return uint32(C.dps_dataplane_generation(n.dp)) }

// flowTable returns how full the flow tables are.
func (n *instance) flowTable() graph.FlowTable {
	var t C.struct_flow_table
	C.dps_dataplane_flow_table(n.dp, &t)
	table := graph.FlowTable{Flows: int(t.flows), Capacity: int(t.capacity), Guaranteed: int(t.guaranteed)}
	for i := range t.shares[:2*n.dp.nb_ports] {
		p := n.dp.ports[i/2]
		if !p.vf {
			continue
		}
		s := t.shares[i]
		table.Overflow += uint64(s.overflow)
		table.Shares = append(table.Shares, graph.FlowShare{
			Port: uint16(p.id), Origin: graph.Origin(i % 2), Flows: int(s.flows), Evicted: uint64(s.evicted),
			Overflow: uint64(s.overflow),
		})
	}
	return table
}

// stats returns every node's counters, summed over the workers.
func (n *instance) stats() []graph.NodeStats {
	buf := make([]C.struct_node_stats, maxNodes)
	got := C.dps_dataplane_stats(n.dp, unsafe.SliceData(buf), maxNodes)
	stats := make([]graph.NodeStats, 0, maxNodes)
	for i := range buf[:max(got, 0)] {
		stats = append(stats, graph.NodeStats{
			Name:    C.GoString(&buf[i].name[0]),
			Calls:   uint64(buf[i].calls),
			Packets: uint64(buf[i].objs),
			Cycles:  uint64(buf[i].cycles),
		})
	}
	return stats
}

// drops counts the dropped packets by port and reason; what is 0 is left out.
func (n *instance) drops() []graph.Drops {
	var counts [C.RTE_MAX_ETHPORTS][C.DROP_REASONS]C.uint64_t
	C.dps_dataplane_drops(n.dp, &counts[0])
	var all []graph.Drops
	for port, byReason := range counts {
		for reason, packets := range byReason {
			if packets > 0 {
				all = append(all, graph.Drops{Port: uint16(port), Reason: wire.DropReason(reason), Packets: uint64(packets)})
			}
		}
	}
	return all
}

// dot draws the first worker's graph; empty for want of memory.
func (n *instance) dot() string {
	text := C.dps_dataplane_dot(n.dp)
	defer C.free(unsafe.Pointer(text))
	return C.GoString(text)
}

// puntReader takes punted frames out of the ring, a batch at a time.
type puntReader struct {
	n     *instance
	buf   []byte
	ports [readBatch]C.uint16_t
	lens  [readBatch]C.uint16_t
}

// newPuntReader returns the one reader of an instance's punts.
func newPuntReader(n *instance) *puntReader { return &puntReader{n: n, buf: make([]byte, puntBufSize)} }

// read returns the next batch; an empty one if there is nothing.
func (r *puntReader) read() []graph.Punt {
	got := C.dps_dataplane_read_punts(r.n.dp, (*C.uint8_t)(unsafe.SliceData(r.buf)), C.uint32_t(len(r.buf)), &r.ports[0],
		&r.lens[0], readBatch)
	punts := make([]graph.Punt, got)
	rest := r.buf
	for i := range punts {
		size := int(r.lens[i])
		punts[i] = graph.Punt{Port: uint16(r.ports[i]), Frame: append([]byte(nil), rest[:size]...)}
		rest = rest[size:]
	}
	return punts
}

// eventReader takes flow events out of the ring, a batch at a time. Two batches take turns: one is read while the last
// one is in use.
type eventReader struct {
	n          *instance
	last, next eventBuffer
}

// eventBuffer is a batch of events in C's form, and in Go's, which leaves the headers where they are.
type eventBuffer struct {
	infos  []C.struct_flow_info
	events []graph.FlowEvent
}

func newEventBuffer() eventBuffer {
	return eventBuffer{make([]C.struct_flow_info, eventBatch), make([]graph.FlowEvent, eventBatch)}
}

// newEventReader returns the one reader of an instance's flow events.
func newEventReader(n *instance) *eventReader {
	return &eventReader{n, newEventBuffer(), newEventBuffer()}
}

// read returns the next batch; none if there is nothing. It is valid until the next but one is read.
func (r *eventReader) read() []graph.FlowEvent {
	infos := r.next.infos
	got := C.dps_dataplane_read_events(r.n.dp, unsafe.SliceData(infos), C.uint32_t(len(infos)))
	if got == 0 {
		return nil // the last batch is still in use
	}
	events := r.next.events[:got]
	r.last, r.next = r.next, r.last
	for i := range events {
		info := &infos[i]
		switch e := &events[i]; graph.EventKind(info.event) {
		case graph.FlowNew:
			*e = graph.FlowEvent{Kind: graph.FlowNew, Flow: asFlowOf(info)}
		case graph.FlowGone:
			*e = graph.FlowEvent{Kind: graph.FlowGone, Flow: graph.Flow{ID: uint64(info.id)}}
		case graph.FlowsResolved:
			*e = graph.FlowEvent{Kind: graph.FlowsResolved, Generation: uint32(info.id)}
		}
	}
	return events
}

// asError turns a negative errno into an error that wraps a sentinel where there is one.
func asError(rc C.int) error {
	if rc >= 0 {
		return nil
	}
	errno := syscall.Errno(-rc)
	switch errno {
	case syscall.EEXIST:
		return graph.ErrExists
	case syscall.ENOENT, syscall.ENODEV:
		return graph.ErrNotFound
	case syscall.ENOSPC, syscall.ENOBUFS:
		return graph.ErrFull
	case syscall.ETIMEDOUT:
		return graph.ErrTimeout
	case syscall.EINVAL, syscall.EMSGSIZE:
		return graph.ErrInvalid
	default:
		return errno
	}
}
