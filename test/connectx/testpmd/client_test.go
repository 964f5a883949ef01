// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"dpservice/test/plugin"
	"dpservice/test/testpmd/console"
	"dpservice/test/topology"
)

const (
	replyTimeout = 20 * time.Second
	frameTimeout = 10 * time.Second
	quietTime    = 300 * time.Millisecond
	mtu          = 1500
)

// The ports as testpmd numbers them.
const (
	pf0 = iota
	vf0
	vf1
	pf1
)

// farSides are the netdevs behind the ports, by number.
var farSides = []string{"wire0", "guest0", "guest1", "wire1"}

// client is a dpdk-testpmd on a virtual ConnectX. It has a packet socket at the other end of each port's far side.
type client struct {
	t      *testing.T
	lab    *topology.Lab
	host   *topology.Namespace
	far    *topology.Namespace
	prefix string
	socket []int
	*console.Console
}

// newClient starts testpmd on a card of this profile, with these arguments of its own.
func newClient(t *testing.T, card string, args ...string) *client {
	t.Helper()
	return newClientWith(t, card, "", args...)
}

// newClientWith starts it with more device arguments, too.
func newClientWith(t *testing.T, card, devargs string, args ...string) *client {
	t.Helper()
	lab, err := topology.New()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, lab.Close()) })
	noIPv6 := []string{"net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"}
	c := &client{t: t, lab: lab, prefix: filepath.Base(lab.Dir())}
	c.host, err = lab.Namespace("host", noIPv6...)
	require.NoError(t, err)
	c.far, err = lab.Namespace("far", noIPv6...)
	require.NoError(t, err)
	for _, name := range farSides {
		require.NoError(t, lab.Link(c.host, name, c.far, "far-"+name, mtu))
		socket, err := listen(c.far, "far-"+name)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, unix.Close(socket)) })
		c.socket = append(c.socket, socket)
	}
	c.start(card, devargs, args)
	return c
}

// listen opens a socket for whole frames, with what the kernel tells of their VLAN tags.
func listen(ns *topology.Namespace, device string) (fd int, err error) {
	err = ns.Inside(func() error {
		dev, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}),
		)
	})
	return fd, err
}

func (c *client) start(card, devargs string, args []string) {
	c.t.Helper()
	library, err := plugin.Built("libconnectx.so")
	require.NoError(c.t, err)
	if devargs != "" {
		devargs = "," + devargs
	}
	// Line by line, or else its answers come later than its complaints.
	cmd := exec.Command("ip", append([]string{
		"netns", "exec", c.host.Name,
		"env", "LD_PRELOAD=" + library, "CONNECTX=card=" + card + ",pf0=wire0,pf1=wire1,vf0=guest0,vf1=guest1",
		"stdbuf", "-oL", "dpdk-testpmd", "--no-huge", "-m", "384", "--file-prefix", c.prefix, "-l", "0,1",
		"-a", "0000:03:00.0,dv_flow_en=1,dv_esw_en=1,representor=vf[0-1]" + devargs, "-a", "0000:03:00.1",
		"--", "-i", "--total-num-mbufs=8192", "--rxd=512", "--txd=512",
	}, args...)...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+c.lab.Dir()) // where EAL and the card put their files
	c.t.Cleanup(c.checkEnd)
	c.Console = console.Start(c.t, cmd)
}

// checkEnd looks at what testpmd has said and left behind when it has ended.
func (c *client) checkEnd() {
	if c.Console != nil {
		assert.NotContains(c.t, c.Since(0), "refused:", "the driver has asked for what the card does not know")
	}
	left, err := filepath.Glob(c.lab.Path("connectx.*"))
	assert.NoError(c.t, err)
	assert.Empty(c.t, left, "the card's files are left behind")
}

func (c *client) tell(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		answer := c.Ask(t, command)
		require.NotContains(t, answer, "Bad arguments", command)
		require.NotContains(t, strings.ToLower(answer), "fail", command)
	}
}

// telemetry asks DPDK's telemetry and reads the answer to a command into into.
func (c *client) telemetry(t *testing.T, command string, into any) {
	t.Helper()
	conn, err := net.Dial("unixpacket", c.lab.Path(filepath.Join("dpdk", c.prefix, "dpdk_telemetry.v2")))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(replyTimeout)))
	buffer := make([]byte, 1<<17)
	_, err = conn.Read(buffer) // who is there
	require.NoError(t, err)
	_, err = conn.Write([]byte(command))
	require.NoError(t, err)
	n, err := conn.Read(buffer)
	require.NoError(t, err)
	answer := map[string]json.RawMessage{}
	require.NoError(t, json.Unmarshal(buffer[:n], &answer), "%s", buffer[:n])
	for _, raw := range answer {
		require.NotContains(t, string(raw), `"error"`)
		require.NoError(t, json.Unmarshal(raw, into), "%s", raw)
	}
}

// counter is one of the card's counters of a port.
func (c *client) counter(t *testing.T, port, name string) int {
	t.Helper()
	var ports map[string]map[string]int
	c.telemetry(t, "/connectx/ports", &ports)
	return ports[port][name]
}

// send lets frames arrive at a port from its far side.
func (c *client) send(t *testing.T, port int, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		_, err := unix.Write(c.socket[port], f)
		require.NoError(t, err)
	}
}

// receive returns n frames that have left through a port, or as many as have until the time is over.
func (c *client) receive(t *testing.T, port, n int, timeout time.Duration) [][]byte {
	t.Helper()
	var frames [][]byte
	deadline := time.Now().Add(timeout)
	for len(frames) < n {
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		fds := []unix.PollFd{{Fd: int32(c.socket[port]), Events: unix.POLLIN}}
		if got, err := unix.Poll(fds, int(left.Milliseconds())+1); errors.Is(err, unix.EINTR) || got == 0 {
			continue
		}
		frame, err := readFrame(c.socket[port])
		require.NoError(t, err)
		frames = append(frames, frame)
	}
	return frames
}

// readFrame puts the tag that the kernel has taken off back into the frame.
func readFrame(fd int) ([]byte, error) {
	frame, control := make([]byte, 1<<16), make([]byte, 256)
	n, cn, _, _, err := unix.Recvmsg(fd, frame, control, 0)
	if err != nil {
		return nil, err
	}
	frame = frame[:n]
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		if binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		tag := binary.BigEndian.AppendUint16(nil, binary.NativeEndian.Uint16(m.Data[18:]))
		tag = binary.BigEndian.AppendUint16(tag, binary.NativeEndian.Uint16(m.Data[16:]))
		frame = append(append(append([]byte{}, frame[:12]...), tag...), frame[12:]...)
	}
	return frame, nil
}

// forwards sends frames in at one port and wants these out of another, in this order and nothing else.
func (c *client) forwards(t *testing.T, from int, in [][]byte, to int, out [][]byte) {
	t.Helper()
	// Not more at once than a queue holds while the machine is busy with other things.
	const atOnce = 64
	require.Len(t, out, len(in))
	for begin := 0; begin < len(in); begin += atOnce {
		end := min(begin+atOnce, len(in))
		c.send(t, from, in[begin:end]...)
		got := c.receive(t, to, end-begin, frameTimeout)
		require.Len(t, got, end-begin, "%d bytes and others, from %s to %s", len(in[begin]), farSides[from], farSides[to])
		for i := range got {
			require.Equal(t, out[begin+i], got[i], "frame %d of %d bytes, from %s to %s", begin+i, len(in[begin+i]),
				farSides[from], farSides[to])
		}
	}
	require.Empty(t, c.receive(t, to, 1, time.Millisecond), "out of %s", farSides[to])
}

func (c *client) quiet(t *testing.T, port int) {
	t.Helper()
	require.Empty(t, c.receive(t, port, 1, quietTime), "out of %s", farSides[port])
}

// eventually tries until it works, as long as an answer may take.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(replyTimeout); !ok(); time.Sleep(10 * time.Millisecond) {
		require.False(t, time.Now().After(deadline), fmt.Sprintf("waited in vain: %s", what))
	}
}
