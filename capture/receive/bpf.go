// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"dpservice/wire"
)

// MaxFrom is the largest number of networks in Config.From: the kernel accepts filters of at most 4096 instructions.
const MaxFrom = 64

// condition compares some bits of a packet.
type condition struct {
	load         bpf.Instruction
	mask, wanted uint32
}

const wholeWord = ^uint32(0)

// attach installs a BPF filter on a socket.
func attach(fd int, filter []bpf.Instruction) error {
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return fmt.Errorf("assembling a filter: %w", err)
	}
	instructions := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		instructions[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("attaching a filter: %w", err)
	}
	return nil
}

// rejectAll is a filter that rejects every packet.
var rejectAll = []bpf.Instruction{bpf.RetConstant{Val: 0}}

// program returns a filter for IPv6 packets that meet all conditions and whose source address is in one of the
// networks. If the list of networks is empty, every source address is accepted.
func program(conditions []condition, from []netip.Prefix) []bpf.Instruction {
	reject, accept := bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: wholeWord}
	var filter []bpf.Instruction
	for _, c := range conditions {
		filter = append(append(filter, c.jump(0, 1)...), reject)
	}
	if len(from) == 0 {
		return append(filter, accept)
	}
	for _, p := range from {
		var block []bpf.Instruction
		all := comesFrom(p)
		for i := len(all) - 1; i >= 0; i-- { // from the last to the first: a jump needs the length of what follows
			block = append(all[i].jump(uint8(len(block)+1), 0), block...)
		}
		filter = append(append(filter, block...), accept)
	}
	return append(filter, reject)
}

// jump returns the instructions of the comparison. They skip yes instructions if the condition holds, and no
// instructions otherwise.
func (c condition) jump(no, yes uint8) []bpf.Instruction {
	filter := []bpf.Instruction{c.load}
	if c.mask != wholeWord {
		filter = append(filter, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask})
	}
	return append(filter, bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.wanted, SkipTrue: yes, SkipFalse: no})
}

// comesFrom returns the conditions for a source address in a network. The offsets are relative to the IPv6 header,
// wherever the data of the socket begin.
func comesFrom(p netip.Prefix) []condition {
	const networkHeader, offset = 0xfff00000, 8 // SKF_NET_OFF
	return address(p, networkHeader+offset)
}

// address returns the conditions for an address in a network. The address is at the given offset.
func address(p netip.Prefix, offset uint32) []condition {
	var conditions []condition
	b := p.Masked().Addr().As16()
	for i := 0; i < p.Bits(); i += 32 {
		mask := wholeWord
		if left := p.Bits() - i; left < 32 {
			mask <<= 32 - left
		}
		load := bpf.LoadAbsolute{Off: offset + uint32(i/8), Size: 4}
		conditions = append(conditions, condition{load, mask, binary.BigEndian.Uint32(b[i/8:])})
	}
	return conditions
}

// onlyTo returns the conditions for UDP datagrams to an address. They are for a packet socket whose data begin with the
// IPv6 header, and accept only frames that are addressed to this host.
func onlyTo(at netip.AddrPort) []condition {
	const (
		packetHost  = 0
		offsetProto = 6
		offsetTo    = 24
		offsetPort  = wire.IPv6Len + 2
	)
	conditions := []condition{
		{bpf.LoadExtension{Num: bpf.ExtType}, wholeWord, packetHost},
		{bpf.LoadAbsolute{Off: offsetProto, Size: 1}, wholeWord, wire.ProtoUDP},
		{bpf.LoadAbsolute{Off: offsetPort, Size: 2}, wholeWord, uint32(at.Port())},
	}
	if at.Addr().IsUnspecified() {
		return conditions
	}
	return append(conditions, address(netip.PrefixFrom(at.Addr(), at.Addr().BitLen()), offsetTo)...)
}
