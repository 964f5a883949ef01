// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/cgo/eal"
	"dpservice/cgo/mempool"
	"dpservice/graph"
	"dpservice/graph/graphtest"
	"dpservice/wire"
)

func TestMain(m *testing.M) {
	err := eal.Init([]string{"--no-huge", "-m", "64", "--no-pci", "--lcores", "0@0,(1-2)@1", "--no-telemetry",
		"--file-prefix", "nodes_" + rand.Text()[:8]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rc := m.Run()
	if err := eal.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		rc = 1
	}
	os.Exit(rc)
}

// newInstance returns an instance with workers and a port, a VF or an uplink, which can have taps.
func newInstance(t *testing.T, name string, vf bool, workers int) (*instance, *graphtest.Port) {
	t.Helper()
	pool, err := mempool.NewPktmbuf("nodes_test_"+name, 511, 0, 0, mempool.DataRoom)
	require.NoError(t, err)
	t.Cleanup(pool.Free)
	port, err := graphtest.NewPort(name, workers, pool)
	require.NoError(t, err)
	n, err := create(Config{
		Name: name, Ports: []graph.PortConfig{{ID: port.ID, Name: name, VF: vf}}, Workers: []int{1, 2}[:workers],
		FlowCapacity: 64,
		PuntRate:     1, PuntBurst: 1, Pool: pool,
	})
	require.NoError(t, err)
	t.Cleanup(n.free)
	return n, port
}

// state is what a worker has of a port.
type state struct {
	iface      uint16
	generation uint32
	tapped     bool
}

func states(n *instance, port uint16) (all []state) {
	for _, w := range n.dp.workers[:n.dp.nb_workers] {
		all = append(all, state{uint16(w.ports[port].iface), uint32(w.generation), w.taps[port][graph.TapRX] != nil})
	}
	return all
}

// A request that a worker has not taken in time is never carried out, neither by it when it goes on nor by the others;
// and its memory comes back.
func TestHeldUpWorker(t *testing.T) {
	for held := range 2 {
		t.Run(fmt.Sprintf("worker %d", held), func(t *testing.T) {
			n, port := newInstance(t, fmt.Sprintf("held%d", held), false, 2)
			setTap := func(rules int) error {
				_, err := n.setTap(graph.Tap{Port: port.ID, Out: port.ID, Header: make([]byte, wire.CopyHeaderLen),
					Rules: make([]graph.TapRule, rules)})
				return err
			}
			setUplink := func() error { return n.setUplink(graph.Uplink{Port: port.ID, LinkUp: true}) }
			require.NoError(t, n.start())
			t.Cleanup(n.stop)
			require.NoError(t, setTap(1))
			before, memory := states(n, port.ID), graphtest.HeapInUse()
			require.Positive(t, memory)

			letGo := port.Hold(held)
			defer letGo()
			start := time.Now()
			require.ErrorIs(t, setUplink(), graph.ErrTimeout)
			require.WithinRange(t, time.Now(), start.Add(2*time.Second), start.Add(10*time.Second))
			require.ErrorIs(t, setTap(2), graph.ErrTimeout)
			require.ErrorIs(t, n.ping(), graph.ErrTimeout)
			_, err := n.removeTap(port.ID, graph.TapRX)
			require.ErrorIs(t, err, graph.ErrTimeout)
			letGo()
			require.ErrorIs(t, n.changeFlows(remove, []uint64{uint64(held) << 56}), graph.ErrNotFound, "it answers again")
			require.NoError(t, n.ping())
			require.Equal(t, before, states(n, port.ID))
			require.Equal(t, memory, graphtest.HeapInUse())
			c, err := n.tapCounters(port.ID, graph.TapRX)
			require.NoError(t, err)
			require.Len(t, c.Rules, 1)

			require.NoError(t, setUplink())
			after := states(n, port.ID)
			require.NotEqual(t, before[0].generation, after[0].generation)
			require.Equal(t, after[0], after[1])
			_, err = n.removeTap(port.ID, graph.TapRX)
			require.NoError(t, err)
			require.False(t, states(n, port.ID)[0].tapped || states(n, port.ID)[1].tapped)
		})
	}
}

// What the second worker refuses the first has not done either.
func TestSecondWorkerRefuses(t *testing.T) {
	n, port := newInstance(t, "refuses", true, 2)
	i := graph.Interface{Index: 1, Port: port.ID, VNI: 1, Underlay: netip.MustParseAddr("fc00::1")}
	for _, running := range []bool{false, true} {
		if running {
			require.NoError(t, n.start())
			defer n.stop()
		}
		free := n.dp.workers[1].ports[port.ID].iface
		n.dp.workers[1].ports[port.ID].iface = 2
		before := states(n, port.ID)
		require.ErrorIs(t, n.setInterface(i), graph.ErrExists)
		require.Equal(t, before, states(n, port.ID))
		n.dp.workers[1].ports[port.ID].iface = free
		require.NoError(t, n.setInterface(i))
		require.NoError(t, n.deleteInterface(1))
	}
}

// When a process was stopped for longer than a worker has to take a request, its workers still have their time
// afterwards.
func TestStoppedProcess(t *testing.T) {
	n, port := newInstance(t, "stopped", true, 2)
	require.NoError(t, n.start())
	defer n.stop()
	letGo := port.Hold(1)
	defer letGo()
	answer := make(chan error)
	go func() { answer <- n.changeFlows(remove, []uint64{1 << 56}) }()
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, exec.Command("sh", "-c",
		fmt.Sprintf("kill -STOP %[1]d; sleep 4; kill -CONT %[1]d", os.Getpid())).Run())
	letGo()
	require.ErrorIs(t, <-answer, graph.ErrNotFound)
}

// Without memory for another tap the one that is there goes on.
func TestTapWithoutMemory(t *testing.T) {
	n, p := newInstance(t, "no_memory", false, 1)
	port := p.ID
	set := func(rules int) error {
		_, err := n.setTap(graph.Tap{Port: port, Out: port, Header: make([]byte, wire.CopyHeaderLen),
			Rules: make([]graph.TapRule, rules)})
		return err
	}
	require.NoError(t, set(1))
	giveBack := graphtest.FillHeap()
	require.ErrorIs(t, set(graph.MaxTapRules), graph.ErrFull)
	giveBack()
	c, err := n.tapCounters(port, graph.TapRX)
	require.NoError(t, err)
	require.Len(t, c.Rules, 1)
	require.NoError(t, set(graph.MaxTapRules))
}
