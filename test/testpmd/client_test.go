// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"dpservice/test/plugin"
	"dpservice/test/record"
	"dpservice/test/topology"
)

const (
	startTimeout = 30 * time.Second
	replyTimeout = 10 * time.Second
)

// The ports as testpmd numbers them: the NIC's come behind their far sides.
const (
	pf0 = 4
	pf1 = 5
	vf0 = 6
	vf1 = 7
)

// client is a dpdk-testpmd with a NIC of four ports. Frames sent with send arrive at VF 0; what leaves the NIC is
// written to a pcap at the port's far side.
type client struct {
	t      *testing.T
	lab    *topology.Lab
	stdin  io.Writer
	output *output
	socket int
}

// output collects what testpmd prints.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) since(mark int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()[mark:]
}

func newClient(t *testing.T) *client {
	t.Helper()
	lab, err := topology.New()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, lab.Close()) })
	noIPv6 := []string{"net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"}
	host, err := lab.Namespace("host", noIPv6...)
	require.NoError(t, err)
	guest, err := lab.Namespace("guest", noIPv6...)
	require.NoError(t, err)
	require.NoError(t, lab.Link(host, "vf0", guest, "eth0", 1500))

	c := &client{t: t, lab: lab, output: &output{}, socket: packetSocket(t, guest, "eth0")}
	c.start(host)
	return c
}

// start runs testpmd in the namespace, with a pcap behind each port, and waits until its ports are up.
func (c *client) start(host *topology.Namespace) {
	driver, remove, err := plugin.Install()
	require.NoError(c.t, err)
	c.t.Cleanup(func() { assert.NoError(c.t, remove()) })
	prefix := filepath.Base(c.lab.Dir())
	c.t.Cleanup(func() { assert.NoError(c.t, os.RemoveAll("/var/run/dpdk/"+prefix)) })

	cmd := exec.Command("ip", "netns", "exec", host.Name, "stdbuf", "-oL", "dpdk-testpmd",
		"--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--file-prefix", prefix, "-l", "0,1", "-d", driver,
		"--vdev=net_pcap0,tx_pcap="+c.lab.Path("pf0.pcap"),
		"--vdev=net_pcap1,tx_pcap="+c.lab.Path("pf1.pcap"),
		"--vdev=net_pcap2,rx_iface=vf0,tx_pcap="+c.lab.Path("vf0.pcap"),
		"--vdev=net_pcap3,tx_pcap="+c.lab.Path("vf1.pcap"),
		"--vdev=net_eswitch0,pf0=net_pcap0,pf1=net_pcap1,vf0=net_pcap2,vf1=net_pcap3",
		"--", "-i", "--total-num-mbufs=2048")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = c.output, c.output
	c.stdin, err = cmd.StdinPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, cmd.Start())
	c.t.Cleanup(func() { c.quit(cmd) })
	c.wait(startTimeout, 0, `Checking link statuses\.\.\.\n(.*\n)*.*Done`)
}

func (c *client) quit(cmd *exec.Cmd) {
	_, err := io.WriteString(c.stdin, "quit\n")
	assert.NoError(c.t, err)
	kill := time.AfterFunc(startTimeout, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	assert.NoError(c.t, cmd.Wait())
	if c.t.Failed() {
		c.t.Log(c.output.since(0))
	}
}

// wait returns what the first group of pattern, or else pattern, matches in the output since mark.
func (c *client) wait(timeout time.Duration, mark int, pattern string) string {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var found []string
	err := topology.Until(ctx, func() error {
		found = re.FindStringSubmatch(c.output.since(mark))
		if found == nil {
			return fmt.Errorf("testpmd did not print %q", pattern)
		}
		return nil
	})
	require.NoError(c.t, err, "testpmd said: %s", c.output.since(mark))
	return found[len(found)-1]
}

// do types a command and waits for output that matches.
func (c *client) do(command, pattern string) string {
	c.t.Helper()
	mark := len(c.output.since(0))
	_, err := io.WriteString(c.stdin, command+"\n")
	require.NoError(c.t, err)
	return c.wait(replyTimeout, mark, pattern)
}

// tell types commands that print nothing.
func (c *client) tell(commands ...string) {
	c.t.Helper()
	_, err := io.WriteString(c.stdin, strings.Join(commands, "\n")+"\n")
	require.NoError(c.t, err)
}

// send lets a frame arrive at VF 0.
func (c *client) send(frames ...[]byte) {
	c.t.Helper()
	for _, f := range frames {
		_, err := unix.Write(c.socket, f)
		require.NoError(c.t, err)
	}
}

// left waits until n frames have left the NIC through a port ("pf0"), and returns them.
func (c *client) left(port string, n int) [][]byte {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), replyTimeout)
	defer cancel()
	var data [][]byte
	err := topology.Until(ctx, func() error {
		frames, err := record.Read(c.lab.Path(port + ".pcap"))
		if err != nil {
			return topology.Permanent(err)
		}
		if len(frames) < n {
			return fmt.Errorf("%d of %d frames have left through %s", len(frames), n, port)
		}
		data = nil
		for _, f := range frames {
			data = append(data, f.Data)
		}
		return nil
	})
	require.NoError(c.t, err)
	return data
}

// packetSocket opens a socket that sends frames from a device of the namespace.
func packetSocket(t *testing.T, ns *topology.Namespace, device string) int {
	t.Helper()
	type result struct {
		fd  int
		err error
	}
	opened := make(chan result)
	go func() {
		// The thread is in the namespace from here on, and ends with the goroutine.
		runtime.LockOSThread()
		fd, err := openPacketSocket(ns.Name, device)
		opened <- result{fd, err}
	}()
	r := <-opened
	require.NoError(t, r.err)
	t.Cleanup(func() { assert.NoError(t, unix.Close(r.fd)) })
	return r.fd
}

func openPacketSocket(namespace, device string) (int, error) {
	ns, err := os.Open("/run/netns/" + namespace)
	if err != nil {
		return 0, err
	}
	defer func() { _ = ns.Close() }()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return 0, fmt.Errorf("entering namespace %s: %w", namespace, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("opening a packet socket: %w", err)
	}
	if err := bindToDevice(fd, device); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func bindToDevice(fd int, device string) error {
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return fmt.Errorf("looking for device %s: %w", device, err)
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: int(ifr.Uint32())})
}
