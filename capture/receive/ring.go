// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"dpservice/wire"
)

const (
	// blockLen is the length of a block, which is read as a whole. It is larger than the longest datagram, and smaller
	// than the cache of a CPU.
	blockLen = 1 << 18
	// retireAfter is after how many milliseconds the kernel hands over a block that is not full.
	retireAfter = 10
	// minGather and maxGather limit how long the reader waits for more copies after the first one. A wake-up costs as
	// much as reading a thousand copies. The best delay depends on how fast the ring fills up: between an eighth and a
	// quarter of the ring should be read per wake-up.
	minGather, maxGather = time.Millisecond, 25 * time.Millisecond
)

// ring reads copies from a ring buffer that the kernel shares with this process (packet(7), TPACKET_V3), before they
// pass through the network stack. Unlike with a socket, the kernel frees a packet on the CPU that allocated it. A ring
// needs CAP_NET_RAW.
type ring struct {
	*socket    // keeps the port open, so that the kernel sends no ICMP errors; it discards its datagrams
	fd         int
	memory     []byte
	blocks     int
	block      int    // index of the current block
	ours       bool   // the current block belongs to this process, not to the kernel
	left       uint32 // unread packets in the current block
	rest       []byte // the current block from the next packet on
	lost       uint32
	blocksRead int // blocks read since the last wait
	gather     time.Duration
	local      *local // nil if the filter checks the destination address
}

// openRing opens a ring for the datagrams to the address of a socket. On success the ring owns the socket.
func openRing(s *socket, at netip.AddrPort, buffer int, from []netip.Prefix) (*ring, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	r := &ring{socket: s, fd: fd, blocks: max(2, buffer/blockLen), gather: minGather}
	if err := r.setUp(at, from); err != nil {
		r.closeRing()
		return nil, err
	}
	return r, nil
}

func (r *ring) setUp(at netip.AddrPort, from []netip.Prefix) error {
	if err := attach(r.fd, program(onlyTo(at), from)); err != nil {
		return err
	}
	if at.Addr().IsUnspecified() {
		var err error
		if r.local, err = openLocal(); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return fmt.Errorf("setting PACKET_VERSION: %w", err)
	}
	const frameLen = 2048 // TPACKET_V3 ignores it
	req := unix.TpacketReq3{
		Block_size: blockLen, Block_nr: uint32(r.blocks), Frame_size: frameLen,
		Frame_nr: blockLen / frameLen * uint32(r.blocks), Retire_blk_tov: retireAfter,
	}
	if err := unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return fmt.Errorf("setting PACKET_RX_RING: %w", err)
	}
	var err error
	r.memory, err = unix.Mmap(r.fd, 0, blockLen*r.blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping the ring: %w", err)
	}
	var ipv6 [2]byte
	binary.BigEndian.PutUint16(ipv6[:], unix.ETH_P_IPV6)
	if err := unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(ipv6[:])}); err != nil {
		return fmt.Errorf("binding the packet socket: %w", err)
	}
	// From here on the ring receives the datagrams, and the socket discards them.
	return attach(r.socket.fd, rejectAll)
}

func (r *ring) buffered() int { return len(r.memory) }

// settle waits until the kernel has handed over all packets that have arrived.
func (r *ring) settle() { time.Sleep(3 * retireAfter * time.Millisecond) }

func (r *ring) close() {
	r.closeRing()
	r.socket.close()
}

func (r *ring) closeRing() {
	if r.local != nil {
		r.local.close()
	}
	if r.memory != nil {
		_ = unix.Munmap(r.memory) // at worst the memory stays mapped until the process exits
	}
	_ = unix.Close(r.fd)
}

func (r *ring) wait(timeout time.Duration) error {
	switch {
	case r.blocksRead > r.blocks/4:
		r.gather = max(r.gather/2, minGather)
	case r.blocksRead < r.blocks/8:
		r.gather = min(r.gather*2, maxGather)
	}
	r.blocksRead = 0
	err := poll(r.fd, timeout)
	time.Sleep(r.gather)
	return err
}

// header returns the header of the current block.
func (r *ring) header() *unix.TpacketHdrV1 {
	block := (*unix.TpacketBlockDesc)(unsafe.Pointer(&r.memory[r.block*blockLen]))
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&block.Hdr))
}

// next reads a packet. The data of a packet with invalid lengths are empty.
func (r *ring) next(d *datagram) (bool, error) {
	if r.left == 0 && !r.nextBlock() {
		return false, nil
	}
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&r.rest[0]))
	d.parse(r.rest[h.Net:][:h.Snaplen])
	d.at = int64(h.Sec)*int64(time.Second) + int64(h.Nsec)
	if r.local != nil && d.to.IsValid() {
		// The address follows the header, whose length is a multiple of TPACKET_ALIGNMENT.
		link := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&r.rest[unix.SizeofTpacket3Hdr]))
		d.forwarded = !r.local.has(d.to, int(link.Ifindex), d.at)
	}
	r.rest = r.rest[h.Next_offset:]
	r.left--
	return true, nil
}

// nextBlock returns the current block to the kernel and begins to read the next one. It returns false if the kernel has
// not handed over the next block, or if that block is empty.
func (r *ring) nextBlock() bool {
	h := r.header()
	if r.ours {
		atomic.StoreUint32(&h.Block_status, 0)
		r.block, r.ours = (r.block+1)%r.blocks, false
		h = r.header()
	}
	if atomic.LoadUint32(&h.Block_status)&unix.TP_STATUS_USER == 0 {
		return false
	}
	r.ours, r.left = true, h.Num_pkts
	r.blocksRead++
	r.rest = r.memory[r.block*blockLen:][:blockLen][h.Offset_to_first_pkt:]
	return r.left > 0
}

// parse reads a packet that begins with its IPv6 header.
func (d *datagram) parse(b []byte) {
	h, data, _ := wire.ParseIPv6Copy(b, wire.EncapUDP) // data is empty after an error
	d.sender, d.to = Sender{h.NodeIP, h.Label}, h.Sink
	d.data, d.length = data, len(data)
}

// drops returns how many packets were dropped because the ring was full.
func (r *ring) drops() uint32 {
	if s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		r.lost += s.Drops // the kernel resets its counter at each read
	}
	return r.lost
}
