// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dpservice/cgo/ethdev"
	"dpservice/cgo/mempool"
	"dpservice/cgo/ringport"
)

const (
	mlx5PoolSize   = 16383                 // what RX queues hold, and what is on its way
	mlx5Late       = 2 * time.Second       // what a frame that the reference wants may take longer than the others
	mlx5MaybeLate  = 20 * time.Millisecond // likewise one that may come or not
	mlx5Settle     = time.Millisecond      // what one may take that the reference does not want, once the NIC has read it
	shortestToSend = 60                    // net_mlx5 sends nothing of up to 18 bytes, and wires nothing below this
)

// mlx5Args are EAL's arguments for the virtual card. Vectors take four frames at a time or none, and ringport asks for
// one.
var mlx5Args = []string{
	"-a", "0000:03:00.0,dv_flow_en=1,dv_esw_en=1,dv_xmeta_en=1,rx_vec_en=0,representor=vf[0,1,5]", "-a",
	"0000:03:00.1,rx_vec_en=0",
}

// mlx5 is net_mlx5 over a virtual ConnectX. Its far sides are veths, at whose other ends are sockets.
type mlx5 struct {
	ports
	card    string
	sockets []int
	far     map[string]bool // the interface indices of the far sides, in decimal
	pool    *mempool.Pool
	buf     []byte
}

// farSide is the veth that the card has; the other end has peer's name.
func farSide(port string) string { return "far-" + port }
func peer(port string) string    { return "peer-" + port }

func newMLX5(card string) (*mlx5, error) {
	n := &mlx5{card: card, far: map[string]bool{}, buf: make([]byte, ringport.MaxFrame)}
	pool, err := mempool.NewPktmbuf("mlx5", mlx5PoolSize, 0, 0, mempool.DataRoom)
	if err != nil {
		return nil, err
	}
	n.pool = pool
	var names []string
	for _, p := range testPorts {
		switch {
		case p.uplink:
			names = append(names, "0000:03:00.0")
		case p.domain:
			names = append(names, "0000:03:00.0_representor_"+p.name)
		default:
			names = append(names, "0000:03:00.1")
		}
		// The ports have taken their MTU from the veth. What has two tags is longer than the veth would carry.
		for _, end := range []string{farSide(p.name), peer(p.name)} {
			if text, err := exec.Command("ip", "link", "set", end, "mtu", "1600").CombinedOutput(); err != nil {
				return nil, fmt.Errorf("the MTU of %s: %w: %s", end, err, text)
			}
		}
		dev, err := net.InterfaceByName(farSide(p.name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", farSide(p.name), err)
		}
		n.far[strconv.Itoa(dev.Index)] = true
		socket, err := listen(peer(p.name))
		if err != nil {
			return nil, err
		}
		undo = append(undo, func() error { return unix.Close(socket) })
		n.sockets = append(n.sockets, socket)
	}
	if n.ports, err = newPorts(names, n.pool); err != nil {
		return nil, err
	}
	for _, id := range n.ids {
		if err := ethdev.SetPromiscuous(id, true); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// listen opens a socket for whole frames, with what the kernel tells of their VLAN tags.
func listen(device string) (int, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", device, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	return fd, errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}),
	)
}

func (n *mlx5) name() string { return "net_mlx5 on " + n.card }

func (n *mlx5) hides(o Output) bool { return o.Queue == FarSide && !carried(o.Frame) }

// leastTagged is the length of the shortest frame with a tag from which the kernel can take that off.
const leastTagged = ethLen + 6

// carried tells whether the kernel carries a frame from one end of a veth to the other.
func carried(frame []byte) bool {
	if len(frame) < ethLen {
		return false
	}
	t := be16(frame, ethLen-2)
	return t != typeVLAN && t != typeQinQ || len(frame) >= leastTagged
}

func (n *mlx5) countsLate() bool { return true }

// exchange returns once at least want frames have come and a little time has passed, or after some patience, which is
// little for the last perhaps of these.
func (n *mlx5) exchange(shots []shot, want, perhaps int) ([]Output, error) {
	for _, s := range shots {
		if s.transmit {
			if err := ringport.SendBy(n.id(s.port), n.pool, s.frame); err != nil {
				return nil, err
			}
			continue
		}
		if len(s.frame) < ethLen {
			continue // the kernel does not send such ones, and a NIC drops them
		}
		if _, err := unix.Write(n.sockets[s.port], s.frame); err != nil {
			return nil, fmt.Errorf("sending %d bytes to %s: %w", len(s.frame), testPorts[s.port].name, err)
		}
	}
	var out []Output
	for last := time.Now(); ; {
		before := len(out)
		var err error
		if out, err = n.drain(out); err != nil {
			return nil, err
		}
		if len(out) > before {
			last = time.Now()
		}
		silent := time.Since(last)
		if silent > mlx5Late || silent > mlx5Settle && len(out) >= want || silent > mlx5MaybeLate &&
			len(out) >= want-perhaps {
			// On a busy machine the NIC may not have come to the last frames: the next change would come before them.
			unread, err := n.unread()
			if err != nil || !unread || silent > mlx5Late {
				return out, err
			}
			last = time.Now()
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// unread reports whether frames wait in the sockets of the far sides until the NIC reads them: see packet(7), and
// packet_seq_show in the kernel for the columns.
func (n *mlx5) unread() (bool, error) {
	text, err := os.ReadFile("/proc/thread-self/net/packet")
	if err != nil {
		return false, fmt.Errorf("the packet sockets: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		const index, waiting = 4, 6
		f := strings.Fields(line)
		if len(f) > waiting && n.far[f[index]] && f[waiting] != "0" {
			return true, nil
		}
	}
	return false, nil
}

// drain appends all that has come out of the NIC.
func (n *mlx5) drain(out []Output) ([]Output, error) {
	for port, socket := range n.sockets {
		for {
			frame, err := readFrame(socket, n.buf)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("receiving from %s: %w", testPorts[port].name, err)
			}
			out = append(out, Output{Port: uint16(port), Queue: FarSide, Frame: frame})
		}
	}
	return n.received(out, n.buf)
}

// readFrame puts the tag that the kernel has taken off back into the frame.
func readFrame(fd int, buf []byte) ([]byte, error) {
	control := make([]byte, 256)
	n, cn, _, _, err := unix.Recvmsg(fd, buf, control, 0)
	if err != nil {
		return nil, err
	}
	frame := append([]byte{}, buf[:n]...)
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 ||
			binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		// struct tpacket_auxdata: the TCI and the EtherType are its last two fields.
		tag := binary.BigEndian.AppendUint16(nil, binary.NativeEndian.Uint16(m.Data[18:]))
		tag = binary.BigEndian.AppendUint16(tag, binary.NativeEndian.Uint16(m.Data[16:]))
		frame = append(append(append([]byte{}, frame[:12]...), tag...), frame[12:]...)
	}
	return frame, nil
}
