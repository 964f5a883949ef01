// SPDX-License-Identifier: Apache-2.0

package topology_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("building network namespaces needs root")
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// newNamespace makes a lab with a namespace, which is closed when the test ends.
func newNamespace(t *testing.T) (*topology.Lab, *topology.Namespace) {
	t.Helper()
	needRoot(t)
	lab, err := topology.New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lab.Close()) })
	ns, err := lab.Namespace("a")
	require.NoError(t, err)
	return lab, ns
}

// TestUnderlayForwards uses the hypervisor's kernel in the role of dpservice. The addresses, the router and its routes
// that the topology provides must suffice for a ping from a hypervisor to the sink and to another hypervisor.
func TestUnderlayForwards(t *testing.T) {
	needRoot(t)
	ctx := testContext(t)
	n, err := topology.NewNetwork(1, 2)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()

	for _, h := range n.Hypervisors {
		_, err := h.Run(ctx, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.wire0.disable_ipv6=0")
		require.NoError(t, err)
		require.NoError(t, h.IP("addr add "+h.UnderlayIP.String()+"/64 dev wire0 nodad",
			"route add default via "+routerOf(h)))
	}
	first, second := n.Hypervisors[0], n.Hypervisors[1]
	for _, to := range []string{n.SinkIP.String(), second.UnderlayIP.String()} {
		r, err := first.Run(ctx, "ping", "-c", "1", "-w", "5", to)
		require.NoError(t, err)
		require.NoError(t, r.Err())
	}
	require.Len(t, n.Guests(), 3)
	require.Equal(t, "vm-3", n.Guests()[2].ID)
	mac, err := second.MAC("guest1")
	require.NoError(t, err)
	require.Len(t, mac, 6)
}

func routerOf(h *topology.Hypervisor) string {
	p := h.UnderlayIP.As16()
	return "fc00:" + string('0'+rune(p[3])) + "::ffff"
}

func TestCloseRemovesEverything(t *testing.T) {
	needRoot(t)
	n, err := topology.NewNetwork(1)
	require.NoError(t, err)
	p, err := n.Sink.Start("sleep", "1000")
	require.NoError(t, err)
	leaks, err := topology.Leaks()
	require.NoError(t, err)
	require.Len(t, leaks, 6, "router, sink, hypervisor, guest, folder, process")

	require.NoError(t, n.Close())
	require.NoError(t, n.Close(), "a second time")
	require.ErrorIs(t, syscall.Kill(p.Pid(), 0), syscall.ESRCH)
	leaks, err = topology.Leaks()
	require.NoError(t, err)
	require.Empty(t, leaks)
	_, err = n.Sink.Start("true")
	require.Error(t, err, "nothing starts in a closed lab")
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	needRoot(t)
	bin := t.TempDir()
	for _, tool := range []string{"ip", "sysctl"} { // and no ethtool
		path, err := exec.LookPath(tool)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(bin, tool)))
	}
	t.Setenv("PATH", bin)
	_, err := topology.NewNetwork(1)
	require.ErrorContains(t, err, "ethtool")
	leaks, err := topology.Leaks()
	require.NoError(t, err)
	require.Empty(t, leaks)
}

func TestProcess(t *testing.T) {
	lab, ns := newNamespace(t)

	r, err := ns.Run(testContext(t), "sh", "-c", "echo out; echo err >&2; exit 3")
	require.NoError(t, err)
	require.Equal(t, topology.Result{Stdout: "out\n", Stderr: "err\n", Code: 3}, r)
	require.EqualError(t, r.Err(), "exit code 3: err")

	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = ns.Run(short, "sleep", "1000")
	require.ErrorIs(t, err, context.DeadlineExceeded)

	p, err := ns.Start("sh", "-c", "echo ready; sleep 1000")
	require.NoError(t, err)
	require.NoError(t, p.WaitOutput(testContext(t), p.Stdout, "ready"))
	require.Contains(t, topology.Threads(p), fmt.Sprintf("%d (sh) ", p.Pid()))
	_, err = p.Stop(testContext(t), syscall.SIGTERM)
	require.NoError(t, err)

	p, err = ns.Start("true")
	require.NoError(t, err)
	require.ErrorContains(t, p.WaitOutput(testContext(t), p.Stdout, "ready"), `ended without saying "ready"`)

	_, err = ns.Start("no-such-command-anywhere")
	require.NoError(t, err, "the failure is ip netns exec's own")
	_, err = lab.Run(testContext(t), "", "no-such-command-anywhere")
	require.Error(t, err)
	r, err = lab.Run(testContext(t), "input", "cat")
	require.NoError(t, err)
	require.Equal(t, "input", r.Stdout)
}

func TestUntil(t *testing.T) {
	calls := 0
	require.NoError(t, topology.Until(testContext(t), func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	}))
	require.Equal(t, 3, calls)

	gone := errors.New("gone")
	require.ErrorIs(t, topology.Until(testContext(t), func() error { return topology.Permanent(gone) }), gone)

	short, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	err := topology.Until(short, func() error { return gone })
	require.ErrorIs(t, err, gone)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// Opening a socket in a namespace kills no process, whichever thread has started it.
func TestPacketSocketsLeaveProcesses(t *testing.T) {
	needRoot(t)
	n, err := topology.NewNetwork(1)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	vm := n.Guests()[0]
	var processes []*topology.Process
	for range 50 {
		started := make(chan error)
		go func() {
			p, err := n.Sink.Start("sleep", "1000")
			processes = append(processes, p)
			started <- err
		}()
		require.NoError(t, <-started)
		fd, err := vm.PacketSocket("eth0")
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
	}
	for _, p := range processes {
		select {
		case <-p.Done():
			require.Fail(t, "a process has ended")
		default:
		}
	}
}

// TestNamespaceOfThisProcess runs this test as a child process, which removes the namespace that it is in.
func TestNamespaceOfThisProcess(t *testing.T) {
	const variable = "TOPOLOGY_TEST_NAMESPACE"
	if name := os.Getenv(variable); name != "" {
		require.EqualError(t, topology.RemoveNamespace(name), "namespace "+name+" stays: this process's main thread is in it")
		return
	}
	_, ns := newNamespace(t)
	r, err := ns.Run(testContext(t), "env", variable+"="+ns.Name, os.Args[0], "-test.run=^TestNamespaceOfThisProcess$")
	require.NoError(t, err)
	require.NoError(t, r.Err(), r.Stdout)
}
