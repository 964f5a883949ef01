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
	// blockLen is how much is read at a time: more than the longest datagram, and less than a CPU's cache.
	blockLen = 1 << 18
	// retireAfter is how many milliseconds the kernel keeps a block that is not full.
	retireAfter = 10
	// leastGather and mostGather bound how long after a first copy reading begins: to be woken up costs as much as to take
	// a thousand copies. How long that may be depends on how fast the ring fills: from an eighth to a quarter of it is
	// good.
	leastGather, mostGather = time.Millisecond, 25 * time.Millisecond
)

// ring takes copies from a ring that the kernel and this process share (packet(7), TPACKET_V3), before they go through
// the network stack. Unlike with a socket, a packet is freed on the CPU that made it. It needs CAP_NET_RAW.
type ring struct {
	*socket // holds the port, so that nobody is told that it is closed, and discards what arrives there
	fd      int
	memory  []byte
	blocks  int
	block   int    // the one that is read
	ours    bool   // and not the kernel's
	left    uint32 // packets in it
	rest    []byte // of it, from the next one on
	lost    uint32
	turned  int // blocks that were read since the last wait
	gather  time.Duration
	local   *local // nil if the filter knows the one address
}

// openRing opens a ring for the datagrams to a socket's address. The socket is the ring's from then on.
func openRing(s *socket, at netip.AddrPort, buffer int, from []netip.Prefix) (*ring, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket: %w", err)
	}
	r := &ring{socket: s, fd: fd, blocks: max(2, buffer/blockLen), gather: leastGather}
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
	const frameLen = 2048 // of no meaning to this version
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
	// From here on the datagrams are in the ring.
	return attach(r.socket.fd, rejectAll)
}

func (r *ring) buffered() int { return len(r.memory) }

// settle waits until what has arrived can be read.
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
		_ = unix.Munmap(r.memory) // the process's end would do the same
	}
	_ = unix.Close(r.fd)
}

func (r *ring) wait(timeout time.Duration) error {
	switch {
	case r.turned > r.blocks/4:
		r.gather = max(r.gather/2, leastGather)
	case r.turned < r.blocks/8:
		r.gather = min(r.gather*2, mostGather)
	}
	r.turned = 0
	err := poll(r.fd, timeout)
	time.Sleep(r.gather)
	return err
}

// header is the head of the block that is read.
func (r *ring) header() *unix.TpacketHdrV1 {
	block := (*unix.TpacketBlockDesc)(unsafe.Pointer(&r.memory[r.block*blockLen]))
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&block.Hdr))
}

// next gets a packet. One whose lengths are wrong has no data.
func (r *ring) next(d *datagram) (bool, error) {
	if r.left == 0 && !r.turn() {
		return false, nil
	}
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&r.rest[0]))
	d.parse(r.rest[h.Net:][:h.Snaplen])
	d.at = int64(h.Sec)*int64(time.Second) + int64(h.Nsec)
	if r.local != nil && d.to.IsValid() {
		// The header's length is a multiple of TPACKET_ALIGNMENT.
		link := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&r.rest[unix.SizeofTpacket3Hdr]))
		d.passing = !r.local.has(d.to, int(link.Ifindex), d.at)
	}
	r.rest = r.rest[h.Next_offset:]
	r.left--
	return true, nil
}

// turn gives back the block that has been read, and takes the next one if the kernel has filled it.
func (r *ring) turn() bool {
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
	r.turned++
	r.rest = r.memory[r.block*blockLen:][:blockLen][h.Offset_to_first_pkt:]
	return r.left > 0
}

// parse reads a packet from its IPv6 header on.
func (d *datagram) parse(b []byte) {
	h, data, _ := wire.ParseIPv6Copy(b, wire.EncapUDP) // after an error there are no data
	d.sender, d.to = Sender{h.NodeIP, h.Label}, h.Sink
	d.data, d.length = data, len(data)
}

// drops is how many packets the ring had no room for.
func (r *ring) drops() uint32 {
	if s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		r.lost += s.Drops // the kernel forgets what it has told
	}
	return r.lost
}
