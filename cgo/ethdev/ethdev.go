// SPDX-License-Identifier: Apache-2.0

// Package ethdev finds, configures and reads DPDK's Ethernet ports.
package ethdev

/*
#cgo pkg-config: libdpdk
#cgo CFLAGS: -DALLOW_EXPERIMENTAL_API -Wall -Wextra -Werror
#include <stdlib.h>
#include "ethdev.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"syscall"

	"dpservice/cgo/mempool"
)

// MaxPorts is how many ports this DPDK has room for.
const MaxPorts = C.RTE_MAX_ETHPORTS

// ErrNotFound means that there is no such port.
var ErrNotFound = errors.New("no such port")

// Info describes a port.
type Info struct {
	Name    string // ethdev name
	Driver  string
	MAC     net.HardwareAddr
	MTU     uint16
	IfIndex int // the kernel's interface beside the port, 0 if there is none
	// The most queues that the device can have.
	MaxRxQueues, MaxTxQueues uint16
	// Representor: the port is a representor, not a physical port. RepresentorID is the number that ends its name, which
	// DPDK's public API does not offer; -1 if there is none.
	Representor   bool
	RepresentorID int
	// SwitchDomain is the E-Switch that the port belongs to, nil without one; SwitchName and SwitchPort are its
	// name and the port's number within it.
	SwitchDomain *uint16
	SwitchName   string
	SwitchPort   uint16
}

// Config is how a port shall be set up. Descriptor counts are fitted to the device's limits; 0 is its default. Over
// several RX queues a device spreads flows by their addresses and ports, if it can.
type Config struct {
	RxQueues, TxQueues uint16
	RxDescs, TxDescs   uint16
	Pool               *mempool.Pool // where received packets go
}

// Link is a port's link.
type Link struct {
	Up        bool
	SpeedMbps uint32 // 0 if unknown
}

// Stats are a port's basic counters.
type Stats struct {
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	RxMissed             uint64 // dropped by the device: no room in the RX queue
	RxErrors, TxErrors   uint64
	RxNoMbuf             uint64 // the pool was empty
}

// Xstat is one of a driver's own counters.
type Xstat struct {
	Name  string
	Value uint64
}

// List returns the ports that nobody else in this process owns.
func List() []uint16 {
	var ids []uint16
	next := func(from C.uint16_t) C.uint64_t { return C.rte_eth_find_next_owned_by(from, C.RTE_ETH_DEV_NO_OWNER) }
	for id := next(0); id < C.RTE_MAX_ETHPORTS; id = next(C.uint16_t(id) + 1) {
		ids = append(ids, uint16(id))
	}
	return ids
}

// Find returns the port of List with this ethdev name or, failing that, with this name of the kernel's interface
// beside it. Without one the error is ErrNotFound.
func Find(name string) (uint16, error) {
	var twins []uint16
	for _, id := range List() {
		info, err := GetInfo(id)
		if err != nil {
			return 0, err
		}
		if info.Name == name {
			return id, nil
		}
		if info.IfIndex != 0 && ifname(info.IfIndex) == name {
			twins = append(twins, id)
		}
	}
	if len(twins) > 0 {
		return twins[0], nil
	}
	return 0, fmt.Errorf("%w: %q is neither an ethdev nor the kernel's interface of one", ErrNotFound, name)
}

// GetInfo describes a port.
func GetInfo(id uint16) (Info, error) {
	var c C.struct_dps_port_info
	if rc := C.dps_port_info(C.uint16_t(id), &c); rc < 0 {
		return Info{}, portError("get info of", id, rc)
	}
	info := Info{
		Name:          C.GoString(&c.name[0]),
		Driver:        C.GoString(&c.driver[0]),
		MAC:           macOf(c.mac),
		MTU:           uint16(c.mtu),
		IfIndex:       int(c.if_index),
		MaxRxQueues:   uint16(c.max_rxq),
		MaxTxQueues:   uint16(c.max_txq),
		Representor:   bool(c.representor),
		RepresentorID: -1,
		SwitchName:    C.GoString(&c.switch_name[0]),
	}
	if info.Representor {
		info.RepresentorID = representorID(info.Name)
	}
	if c.has_domain {
		domain := uint16(c.domain)
		info.SwitchDomain, info.SwitchPort = &domain, uint16(c.switch_port)
	}
	return info, nil
}

// Configure sets up a stopped port and all of its queues. The port keeps its MTU.
func Configure(id uint16, cfg Config) error {
	if cfg.RxQueues > 0 && cfg.Pool == nil {
		return fmt.Errorf("ethdev: configure port %d: RX queues need a pool", id)
	}
	c := C.struct_dps_port_config{
		rxq: C.uint16_t(cfg.RxQueues), txq: C.uint16_t(cfg.TxQueues),
		rxd: C.uint16_t(cfg.RxDescs), txd: C.uint16_t(cfg.TxDescs),
	}
	var pool *C.struct_rte_mempool
	if cfg.Pool != nil {
		pool = (*C.struct_rte_mempool)(cfg.Pool.Ptr())
	}
	return portError("configure", id, C.dps_port_configure(C.uint16_t(id), &c, pool))
}

// Start makes a configured port receive and send.
func Start(id uint16) error { return portError("start", id, C.rte_eth_dev_start(C.uint16_t(id))) }

// Stop ends what Start began.
func Stop(id uint16) error { return portError("stop", id, C.rte_eth_dev_stop(C.uint16_t(id))) }

// Close gives up a stopped port for good: its id is free for another.
func Close(id uint16) error { return portError("close", id, C.rte_eth_dev_close(C.uint16_t(id))) }

// SetPromiscuous makes the port receive frames for any MAC, or no longer.
func SetPromiscuous(id uint16, on bool) error {
	if on {
		return portError("enable promiscuous mode of", id, C.rte_eth_promiscuous_enable(C.uint16_t(id)))
	}
	return portError("disable promiscuous mode of", id, C.rte_eth_promiscuous_disable(C.uint16_t(id)))
}

// Removed reports whether a configured port was removed, or has reported that nothing can be done with it any more.
// That is for good.
func Removed(id uint16) bool { return bool(C.dps_port_removed(C.uint16_t(id))) }

// GetLink reads the link's state without waiting for it to settle.
func GetLink(id uint16) (Link, error) {
	var l C.struct_dps_port_link
	if rc := C.dps_port_link(C.uint16_t(id), &l); rc < 0 {
		return Link{}, portError("get link of", id, rc)
	}
	return Link{Up: bool(l.up), SpeedMbps: uint32(l.mbps)}, nil
}

// GetStats reads a port's basic counters.
func GetStats(id uint16) (Stats, error) {
	var s C.struct_rte_eth_stats
	if rc := C.rte_eth_stats_get(C.uint16_t(id), &s); rc < 0 {
		return Stats{}, portError("get stats of", id, rc)
	}
	return Stats{
		RxPackets: uint64(s.ipackets), TxPackets: uint64(s.opackets),
		RxBytes: uint64(s.ibytes), TxBytes: uint64(s.obytes),
		RxMissed: uint64(s.imissed), RxErrors: uint64(s.ierrors), TxErrors: uint64(s.oerrors),
		RxNoMbuf: uint64(s.rx_nombuf),
	}, nil
}

// Xstats reads all of a port's counters, the driver's own included.
func Xstats(id uint16) ([]Xstat, error) {
	n := C.rte_eth_xstats_get_names(C.uint16_t(id), nil, 0)
	if n < 0 {
		return nil, portError("get xstats of", id, n)
	}
	if n == 0 {
		return nil, nil
	}
	names := make([]C.struct_rte_eth_xstat_name, n)
	values := make([]C.struct_rte_eth_xstat, n)
	rc := C.dps_port_xstats(C.uint16_t(id), &names[0], &values[0], C.uint(n))
	if rc < 0 {
		return nil, portError("get xstats of", id, rc)
	}
	xstats := make([]Xstat, rc)
	for i := range xstats {
		xstats[i] = Xstat{C.GoString(&names[values[i].id].name[0]), uint64(values[i].value)}
	}
	return xstats, nil
}

func macOf(c C.struct_rte_ether_addr) net.HardwareAddr {
	mac := make(net.HardwareAddr, len(c.addr_bytes))
	for i, b := range c.addr_bytes {
		mac[i] = byte(b)
	}
	return mac
}

func ifname(index int) string {
	ifc, err := net.InterfaceByIndex(index)
	if err != nil {
		return "" // it has gone since
	}
	return ifc.Name
}

// representorName is how drivers name their representors: PCI-address_representor_vf3, ..._representor_c0pf0vf3.
var representorName = regexp.MustCompile(`_representor_\w*?(\d+)$`)

func representorID(name string) int {
	m := representorName.FindStringSubmatch(name)
	if m == nil {
		return -1
	}
	id, err := strconv.Atoi(m[1])
	if err != nil {
		return -1
	}
	return id
}

// portError turns what ethdev calls return, 0 or a negative errno, into an error.
func portError(what string, id uint16, rc C.int) error {
	if rc >= 0 {
		return nil
	}
	if errno := syscall.Errno(-rc); errno != syscall.ENODEV {
		return fmt.Errorf("ethdev: %s port %d: %w", what, id, errno)
	}
	return fmt.Errorf("ethdev: %s port %d: %w", what, id, ErrNotFound)
}
