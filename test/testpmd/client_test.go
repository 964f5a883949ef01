// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"dpservice/test/plugin"
	"dpservice/test/record"
	"dpservice/test/testpmd/console"
	"dpservice/test/topology"
)

const replyTimeout = 10 * time.Second

// The ports as testpmd numbers them: the NICs' come behind their far sides. The second NIC has extended metadata.
const (
	farPF0 = iota
	farPF1
	farVF0
	farVF1
	farXPF0
	farXVF0
	pf0
	pf1
	vf0
	vf1
	xpf0
	xvf0
)

// farSides are the names of the far sides' files, and those of them at which frames can arrive.
var (
	farSides = []string{"pf0", "pf1", "vf0", "vf1", "xpf0", "xvf0"}
	wires    = []string{"pf0", "vf0", "xvf0"}
)

// client is a dpdk-testpmd with two NICs. What leaves a NIC is written to a pcap at the port's far side.
type client struct {
	t       *testing.T
	lab     *topology.Lab
	sockets map[string]int // by wire
	seen    map[string]int // by far side: frames that left has returned
	*console.Console
}

func newClient(t *testing.T) *client {
	t.Helper()
	lab, err := topology.New()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, lab.Close()) })
	noIPv6 := []string{"net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"}
	host, err := lab.Namespace("host", noIPv6...)
	require.NoError(t, err)
	far, err := lab.Namespace("far", noIPv6...)
	require.NoError(t, err)
	c := &client{t: t, lab: lab, sockets: map[string]int{}, seen: map[string]int{}}
	for _, wire := range wires {
		require.NoError(t, lab.Link(host, wire, far, "far-"+wire, 1500))
		socket, err := far.PacketSocket("far-" + wire)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, unix.Close(socket)) })
		c.sockets[wire] = socket
	}
	c.start(host)
	return c
}

// start runs testpmd in the namespace, with a pcap behind each port, and waits until its ports are up.
func (c *client) start(host *topology.Namespace) {
	driver, remove, err := plugin.Install()
	require.NoError(c.t, err)
	c.t.Cleanup(func() { assert.NoError(c.t, remove()) })
	prefix := filepath.Base(c.lab.Dir())

	// Line by line, or else its answers come later than its complaints.
	args := []string{
		"netns", "exec", host.Name, "stdbuf", "-oL", "dpdk-testpmd",
		"--no-huge", "-m", "384", "--no-pci", "--no-telemetry", "--file-prefix", prefix, "-l", "0,1", "-d", driver,
	}
	for i, name := range farSides {
		vdev := fmt.Sprintf("--vdev=net_pcap%d,tx_pcap=%s", i, c.lab.Path(name+".pcap"))
		if _, ok := c.sockets[name]; ok {
			vdev += ",rx_iface=" + name
		}
		args = append(args, vdev)
	}
	cmd := exec.Command("ip", append(args,
		"--vdev=net_eswitch0,pf0=net_pcap0,pf1=net_pcap1,vf0=net_pcap2,vf1=net_pcap3",
		"--vdev=net_eswitch1,pf0=net_pcap4,vf0=net_pcap5,dv_xmeta_en=1",
		"--", "-i", "--total-num-mbufs=4096", "--rxq=2", "--txq=2")...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+c.lab.Dir()) // where EAL puts its files
	c.Console = console.Start(c.t, cmd)
}

// tell types commands that are to be answered by nothing.
func (c *client) tell(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		require.Empty(t, c.Ask(t, command), command)
	}
}

// send lets frames arrive from a wire.
func (c *client) send(t *testing.T, wire string, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		_, err := unix.Write(c.sockets[wire], f)
		require.NoError(t, err)
	}
}

// left waits until n more frames have left the NIC through a port, and returns them.
func (c *client) left(t *testing.T, port string, n int) [][]byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), replyTimeout)
	defer cancel()
	var data [][]byte
	require.NoError(t, until(ctx, func() error {
		frames, err := record.Read(c.lab.Path(port + ".pcap"))
		if err != nil {
			return err
		}
		data = nil
		for _, f := range frames[c.seen[port]:] {
			data = append(data, f.Data)
		}
		if len(data) < n {
			return fmt.Errorf("%d of %d frames have left through %s", len(data), n, port)
		}
		return nil
	}))
	c.seen[port] += len(data)
	return data
}

// until is topology.Until for what takes less than a millisecond.
func until(ctx context.Context, cond func() error) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", err)
		case <-tick.C:
		}
	}
}
