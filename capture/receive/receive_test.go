// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"dpservice/wire"
)

const (
	timeout         = 30 * time.Second
	ipv6FlowSend    = 33 // IPV6_FLOWINFO_SEND
	ipv6FlowMgr     = 32 // IPV6_FLOWLABEL_MGR
	udpNoCheck6TX   = 101
	flowLabelShared = 255
)

// reception is a running call of Run with a port of its own.
type reception struct {
	t      *testing.T
	port   uint16
	cancel func()
	done   chan error
	result Counters
}

func freePort(t *testing.T) uint16 {
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	require.NoError(t, err)
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

func (r *reception) address() netip.AddrPort { return netip.AddrPortFrom(netip.IPv6Loopback(), r.port) }

func start(t *testing.T, c Config) *reception {
	r := &reception{t: t, port: freePort(t), done: make(chan error, 1)}
	c.Listen = r.address()
	ready := make(chan Readiness, 1)
	c.Ready = func(got Readiness) { ready <- got }
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	r.cancel = cancel
	go func() {
		var err error
		r.result, err = Run(ctx, c)
		r.done <- err
	}()
	select {
	case got := <-ready:
		assert.Equal(t, c.Listen.Addr(), got.At.Addr())
		assert.Positive(t, got.Buffer)
	case err := <-r.done:
		require.NoError(t, err)
	}
	return r
}

// stop ends the reception as Ctrl-C does. Copies that were sent before are received.
func (r *reception) stop() Counters {
	r.cancel()
	return r.wait()
}

func (r *reception) wait() Counters {
	select {
	case err := <-r.done:
		require.NoError(r.t, err)
	case <-time.After(timeout):
		require.Fail(r.t, "the reception does not end")
	}
	return r.result
}

// send sends a datagram without a UDP checksum, as a NIC does.
func (r *reception) send(data []byte) { r.sendFrom(0, data) }

// sendFrom sends a datagram with a flow label.
func (r *reception) sendFrom(label uint32, data []byte) {
	r.t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	require.NoError(r.t, err)
	defer unix.Close(fd)
	require.NoError(r.t, unix.SetsockoptInt(fd, unix.IPPROTO_UDP, udpNoCheck6TX, 1))
	// Since Linux 4.2 the kernel generates a flow label for a datagram without one.
	require.NoError(r.t, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, 70 /* IPV6_AUTOFLOWLABEL */, 0))
	to := &unix.SockaddrInet6{Port: int(r.port), Addr: netip.IPv6Loopback().As16()}
	if label != 0 {
		request := make([]byte, 32) // struct in6_flowlabel_req
		loopback := netip.IPv6Loopback().As16()
		copy(request, loopback[:])
		copy(request[16:], []byte{0, byte(label >> 16), byte(label >> 8), byte(label)})
		request[20], request[21], request[22] = 0, flowLabelShared, 1 // get, shared by any, create
		require.NoError(r.t, unix.SetsockoptString(fd, unix.IPPROTO_IPV6, ipv6FlowMgr, string(request)))
		require.NoError(r.t, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, ipv6FlowSend, 1))
		r.sendLabelled(fd, label, data)
		return
	}
	require.NoError(r.t, unix.Sendto(fd, data, 0, to))
}

// packet is a packet of a file, with the name of its interface.
type packet struct {
	from string
	data string
	info gopacket.CaptureInfo
}

func read(t *testing.T, name string) (packets []packet, interfaces map[string]pcapgo.NgInterface) {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	require.NoError(t, err)
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		i, err := r.Interface(info.InterfaceIndex)
		require.NoError(t, err)
		packets = append(packets, packet{i.Name, string(data), info})
	}
	interfaces = make(map[string]pcapgo.NgInterface)
	for n := range r.NInterfaces() {
		i, err := r.Interface(n)
		require.NoError(t, err)
		interfaces[i.Name] = i
	}
	return packets, interfaces
}

// Each sender has an interface in the file with its own counters. Copies without a label share another interface.
func TestReceive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.pcapng")
	before := time.Now()
	r := start(t, Config{
		Output: Output{Path: file, Comment: "a session"},
		Describe: func(s Sender) Description {
			assert.Equal(t, netip.IPv6Loopback(), s.Node)
			if s.Label == 7 {
				return Description{Name: "vm-1", Comment: "known"}
			}
			return Description{}
		},
	})
	r.sendFrom(7, []byte("one"))
	r.sendFrom(uint32(wire.DropLabel(9, wire.DropSpoofed)), []byte("two"))
	r.send([]byte("three"))
	r.send(nil) // no frame
	r.sendFrom(7, bytes.Repeat([]byte{4}, 9000))
	assert.Equal(t, Counters{Packets: 4, Bytes: 3 + 3 + 5 + 9000, Senders: 2, Malformed: 1}, r.stop())

	packets, interfaces := read(t, file)
	others := fmt.Sprintf("port-%d", r.port)
	want := []packet{{from: "vm-1", data: "one"}, {from: "label-9-drop-spoofed", data: "two"}, {from: others, data: "three"},
		{from: "vm-1", data: string(bytes.Repeat([]byte{4}, 9000))}}
	require.Len(t, packets, len(want))
	last := before
	for i, p := range packets {
		assert.Equal(t, want[i].from, p.from)
		assert.Equal(t, want[i].data, p.data)
		assert.False(t, p.info.Timestamp.Before(last), "by the kernel's clock, in order")
		last = p.info.Timestamp
	}
	assert.False(t, last.After(time.Now()))
	assert.EqualValues(t, 2, interfaces["vm-1"].Statistics.PacketsReceived)
	assert.Equal(t, "known", interfaces["vm-1"].Comment)
	assert.EqualValues(t, 1, interfaces[others].Statistics.PacketsReceived)
}

func TestReceiveVXLAN(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.pcapng")
	r := start(t, Config{Encap: wire.EncapVXLAN, Output: Output{Path: file}})
	r.send(append([]byte{0x08, 0, 0, 0, 0xab, 0xcd, 0xef, 0}, "frame"...))
	for _, bad := range [][]byte{nil, {0x08, 0, 0, 0}, make([]byte, 20), {0x08, 0, 0, 0, 0, 0, 1, 0}} {
		r.send(bad)
	}
	assert.Equal(t, Counters{Packets: 1, Bytes: 5, Senders: 1, Malformed: 4}, r.stop())
	packets, _ := read(t, file)
	require.Len(t, packets, 1)
	assert.Equal(t, "label-11259375", packets[0].from)
	assert.Equal(t, "frame", packets[0].data)
}

func TestLimits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.pcapng")
	r := start(t, Config{Packets: 100, Output: Output{Path: file}})
	for range 250 {
		r.send([]byte("x"))
	}
	assert.EqualValues(t, 100, r.wait().Packets)
	packets, _ := read(t, file)
	assert.Len(t, packets, 100)

	assert.Zero(t, start(t, Config{Duration: time.Millisecond, Output: Output{Path: file}}).wait().Packets)
}

// Each file of a series is complete, and only the requested number of files is kept.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Config{Output: Output{Path: filepath.Join(dir, "test.pcapng"), RotateSize: 2000, Files: 3}})
	for n := range 100 {
		r.send(fmt.Appendf(nil, "%3d%0100d", n, 0))
	}
	assert.EqualValues(t, 100, r.stop().Packets)
	names, err := filepath.Glob(filepath.Join(dir, "test_*_*.pcapng"))
	require.NoError(t, err)
	require.Len(t, names, 3)
	next := -1
	for _, name := range names {
		packets, _ := read(t, name)
		require.NotEmpty(t, packets)
		for _, p := range packets {
			var n int
			_, err := fmt.Sscan(p.data[:3], &n)
			require.NoError(t, err)
			if next >= 0 {
				assert.Equal(t, next, n, "nothing is lost between files")
			}
			next = n + 1
		}
	}
	assert.Equal(t, 100, next)
}

// Made-up senders do not make a file grow without limit.
func TestManySenders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.pcapng")
	r := start(t, Config{Encap: wire.EncapVXLAN, Output: Output{Path: file}})
	for n := range 2 * MaxSenders {
		r.send([]byte{0x08, 0, 0, 0, 0, byte(n >> 8), byte(n), 0, 1})
	}
	assert.Equal(t, maxUnnamed, r.stop().Senders)
	packets, interfaces := read(t, file)
	assert.Len(t, packets, 2*MaxSenders)
	assert.Len(t, interfaces, maxUnnamed+1)
}

// A reception ends when its pipe is closed by the reader, even if no copies arrive.
func TestReaderGone(t *testing.T) {
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	defer writer.Close()
	r := start(t, Config{Output: Output{File: writer}})
	require.NoError(t, reader.Close())
	assert.Zero(t, r.wait().Packets)
}

func TestRunFails(t *testing.T) {
	r := start(t, Config{Output: Output{Path: filepath.Join(t.TempDir(), "a")}})
	_, err := Run(t.Context(), Config{Listen: netip.AddrPortFrom(netip.IPv6Loopback(), r.port),
		Output: Output{Path: "/dev/null"}})
	require.ErrorIs(t, err, unix.EADDRINUSE)
	r.stop()
	_, err = Run(t.Context(), Config{Listen: netip.AddrPortFrom(netip.IPv6Loopback(), r.port),
		Output: Output{Path: "/nonexistent/a"}})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Run(t.Context(), Config{Listen: netip.AddrPortFrom(netip.IPv6Loopback(), r.port),
		Output: Output{Path: "/dev/full"}})
	require.ErrorIs(t, err, unix.ENOSPC)
}

// Control messages with any content are parsed without reading out of bounds.
func FuzzAncillary(f *testing.F) {
	f.Add([]byte{20, 0, 0, 0, 0, 0, 0, 0, 41, 0, 0, 0, 11, 0, 0, 0, 0, 1, 2, 3})
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, label := ancillary(data)
		assert.Less(t, label, wire.Label(1<<20))
	})
}

// A datagram with any content is either a valid VXLAN copy or rejected.
func FuzzVXLAN(f *testing.F) {
	f.Add([]byte{8, 0, 0, 0, 0, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := datagram{data: data, length: len(data)}
		ok := d.unwrapVXLAN()
		assert.Less(t, d.sender.Label, wire.Label(1<<24))
		assert.Equal(t, ok, len(d.data) == len(data)-wire.VXLANLen)
		assert.Len(t, d.data, d.length)
	})
}

// A reception uses a socket if the process may not open a ring.
func TestReceiveFromSocket(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.pcapng")
	r := start(t, Config{Socket: true, Output: Output{Path: file}})
	for range 1000 {
		r.sendFrom(7, []byte("frame"))
	}
	r.send(nil)
	assert.Equal(t, Counters{Packets: 1000, Bytes: 5000, Senders: 1, Malformed: 1}, r.stop())
	packets, _ := read(t, file)
	require.Len(t, packets, 1000)
	assert.Equal(t, "label-7", packets[0].from)
}

// The ring wraps around more than once without a frame lost, duplicated or out of order.
func TestRingGoesRound(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a ring needs root")
	}
	const buffer, length, sent = 4 << 20, 20_000, 1000
	file := filepath.Join(t.TempDir(), "test.pcapng")
	r := start(t, Config{Buffer: buffer, Output: Output{Path: file}})
	c, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.IPv6loopback, Port: int(r.port)})
	require.NoError(t, err)
	defer c.Close()
	frame := make([]byte, length)
	for n := range uint32(sent) {
		binary.BigEndian.PutUint32(frame, n)
		_, err := c.Write(frame)
		require.NoError(t, err)
	}
	counters := r.stop()
	assert.EqualValues(t, sent, counters.Packets+counters.Dropped)
	assert.Greater(t, counters.Packets, uint64(buffer/length/2))
	packets, _ := read(t, file)
	require.Len(t, packets, int(counters.Packets))
	last := int64(-1)
	for _, p := range packets {
		n := int64(binary.BigEndian.Uint32([]byte(p.data)))
		require.Greater(t, n, last)
		last = n
	}
}

// Packets with any content are parsed without reading out of bounds.
func FuzzDatagram(f *testing.F) {
	b := make([]byte, 60)
	b[5], b[45] = 20, 20
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		var d datagram
		d.parse(data)
		assert.Len(t, d.data, d.length)
		assert.LessOrEqual(t, d.length, max(0, len(data)-wire.IPv6Len-wire.UDPLen))
		assert.Less(t, d.sender.Label, wire.Label(1<<20))
	})
}

// replay is a source of given packets, which begin with their IPv6 headers.
type replay struct {
	source
	packets [][]byte
}

func (w *replay) drops() uint32 { return 0 }

func (w *replay) next(d *datagram) (bool, error) {
	if len(w.packets) == 0 {
		return false, nil
	}
	d.parse(w.packets[0])
	w.packets = w.packets[1:]
	return true, nil
}

// Since anybody can send to the port, every packet is either written or counted as malformed, and the file stays
// readable.
func FuzzHostileWire(f *testing.F) {
	copyOf := func(label byte, data string) []byte {
		b := make([]byte, wire.IPv6Len+wire.UDPLen, wire.IPv6Len+wire.UDPLen+len(data))
		b[3], b[5], b[6], b[wire.IPv6Len+5] = label, byte(wire.UDPLen+len(data)), wire.ProtoUDP, byte(wire.UDPLen+len(data))
		return append(b, data...)
	}
	f.Add(copyOf(7, "frame"), copyOf(0, "another"), false, uint16(3))
	f.Add(copyOf(7, "\x08\x00\x00\x00\x00\x01\x00\x00frame"), copyOf(1, "\x00"), true, uint16(300))
	f.Fuzz(func(t *testing.T, first, second []byte, vxlan bool, times uint16) {
		var packets [][]byte
		for n := range times % 1000 {
			p := bytes.Clone(first)
			if len(p) > 9 { // a different sender each time
				binary.BigEndian.PutUint16(p[8:], n)
			}
			packets = append(packets, p, second)
		}
		file := filepath.Join(t.TempDir(), "test.pcapng")
		c := Config{Output: Output{Path: file, RotateSize: 1 << 30}}
		if vxlan {
			c.Encap = wire.EncapVXLAN
		}
		r := &receiver{config: c, source: &replay{packets: packets}, left: math.MaxUint64}
		end := newWriteDeadlines(t.Context())
		defer end.close()
		files, err := openFiles(t.Context(), &c, 3010, r.dropped, end)
		require.NoError(t, err)
		r.recorder = files
		require.NoError(t, r.drain(t.Context(), timeout))
		require.NoError(t, files.close())
		r.count()
		require.EqualValues(t, len(packets), r.counters.Packets+r.counters.Malformed)
		assert.LessOrEqual(t, r.counters.Senders, MaxSenders)
		written, interfaces := read(t, files.names[0])
		require.Len(t, written, int(r.counters.Packets))
		assert.LessOrEqual(t, len(interfaces), MaxSenders+1)
	})
}
