// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"dpservice/wire"
)

// MaxFrom is how many networks may be named as those that may send: a filter has 4096 instructions.
const MaxFrom = 64

const (
	load4 = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	load2 = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
	load1 = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS

	acceptAll = 0xffffffff
)

// condition is what a filter asks of a packet: some of its bits, by a mask.
type condition struct {
	load         uint16
	offset       uint32
	mask, wanted uint32
}

// attach has the kernel run a filter on what arrives at a socket.
func attach(fd int, filter []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("attaching a filter: %w", err)
	}
	return nil
}

// program is the filter for packets in IPv6 that all conditions hold for, and that come from one of the networks, if there
// are any.
func program(conditions []condition, from []netip.Prefix) []unix.SockFilter {
	reject := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	accept := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: acceptAll}
	var filter []unix.SockFilter
	for _, c := range conditions {
		filter = append(append(filter, c.jump(0, 1)...), reject)
	}
	if len(from) == 0 {
		return append(filter, accept)
	}
	for _, p := range from {
		var block []unix.SockFilter
		all := comesFrom(p)
		for i := len(all) - 1; i >= 0; i-- { // the last one first, as it is known how far it is from there to the next network
			block = append(all[i].jump(uint8(len(block)+1), 0), block...)
		}
		filter = append(append(filter, block...), accept)
	}
	return append(filter, reject)
}

// jump goes so many instructions further if the condition does not hold, and so many if it does.
func (c condition) jump(no, yes uint8) []unix.SockFilter {
	filter := []unix.SockFilter{{Code: c.load, K: c.offset}}
	if c.mask != 0xffffffff {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: c.mask})
	}
	return append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: c.wanted})
}

// comesFrom is what the source address of a packet from a network is asked. It is found from the IPv6 header on wherever the
// socket's data begin.
func comesFrom(p netip.Prefix) []condition {
	const networkHeader, offset = 0xfff00000, 8 // SKF_NET_OFF
	return address(p, networkHeader+offset)
}

// address is what an address in a network is asked, at an offset.
func address(p netip.Prefix, offset uint32) []condition {
	var conditions []condition
	b := p.Masked().Addr().As16()
	for i := 0; i < p.Bits(); i += 32 {
		mask := ^uint32(0)
		if left := p.Bits() - i; left < 32 {
			mask <<= 32 - left
		}
		conditions = append(conditions, condition{load4, offset + uint32(i/8), mask, binary.BigEndian.Uint32(b[i/8:])})
	}
	return conditions
}

// onlyTo are the conditions for UDP datagrams to an address that this machine's network card takes, of a packet socket that
// sees packets from the IPv6 header on.
func onlyTo(at netip.AddrPort) []condition {
	const (
		packetType  = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
		packetHost  = 0
		offsetProto = 6
		offsetTo    = 24
		offsetUDP   = wire.IPv6Len + 2
		whole       = ^uint32(0)
	)
	conditions := []condition{
		{load1, packetType, whole, packetHost}, {load1, offsetProto, whole, unix.IPPROTO_UDP},
		{load2, offsetUDP, whole, uint32(at.Port())},
	}
	if at.Addr().IsUnspecified() {
		return conditions
	}
	return append(conditions, address(netip.PrefixFrom(at.Addr(), at.Addr().BitLen()), offsetTo)...)
}
