// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/cgo/eal"
	"dpservice/cgo/mempool"
	"dpservice/graph/graphtest"
)

func TestMain(m *testing.M) {
	err := eal.Init([]string{"--no-huge", "-m", "64", "--no-pci", "-l", "0,1", "--no-telemetry",
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

// newInstance returns an Instance with one worker and a port, a VF or an uplink, which can have taps.
func newInstance(t *testing.T, name string, vf bool) (*Instance, uint16) {
	t.Helper()
	pool, err := mempool.NewPktmbuf("nodes_test_"+name, 511, 0, 0, mempool.DataRoom)
	require.NoError(t, err)
	t.Cleanup(pool.Free)
	port, err := graphtest.NewPort(name, 1, pool)
	require.NoError(t, err)
	n, err := Create(Config{
		Name: name, Ports: []Port{{ID: port.ID, Name: name, VF: vf}}, Workers: []int{1}, FlowCapacity: 64,
		PuntRate: 1, PuntBurst: 1, Pool: pool.Ptr(),
	})
	require.NoError(t, err)
	t.Cleanup(n.Free)
	return n, port.ID
}

// A request that a stuck worker does not answer comes back with an error. When the worker goes on it is carried out; an
// answer that nobody waits for any more does no harm.
func TestStuckWorker(t *testing.T) {
	n, port := newInstance(t, "stuck", true)
	i := Interface{Index: 1, Port: port, VNI: 1, Underlay: netip.MustParseAddr("fc00::1")}

	n.dp.workers[0].running = true // but it does not
	start := time.Now()
	require.ErrorIs(t, n.SetInterface(i), ErrTimeout)
	require.WithinRange(t, time.Now(), start.Add(2*time.Second), start.Add(4*time.Second))

	n.dp.workers[0].running = false
	require.NoError(t, n.Start())
	require.NoError(t, n.DeleteInterface(1), "the late request has made it")
	n.Stop()
	require.NoError(t, n.SetInterface(i), "a worker that is stopped is configured in place")
}

// While a worker does not say which of two taps it uses, neither is freed, and no third one is set; whichever it turns out
// to be, the memory of both comes back.
func TestStuckWorkerAndTaps(t *testing.T) {
	n, port := newInstance(t, "stuck_tap", false)
	set := func(rules int) error {
		_, err := n.SetTap(Tap{Port: port, Out: port, Header: make([]byte, TapHeaderLen), Rules: make([]TapRule, rules)})
		return err
	}
	rules := func() int {
		c, err := n.TapCounters(port, TapRX)
		require.NoError(t, err)
		return len(c.Rules)
	}
	empty := graphtest.HeapInUse()
	require.Positive(t, empty)
	require.NoError(t, set(1))

	n.dp.workers[0].running = true // but it does not
	require.ErrorIs(t, set(2), ErrTimeout)
	require.ErrorIs(t, set(3), ErrTimeout, "nothing new before that is settled")
	require.Equal(t, 1, rules())
	n.dp.workers[0].running = false
	require.NoError(t, n.Start())
	require.Eventually(t, func() bool { return rules() == 2 }, time.Second, time.Millisecond, "the late request has made it")
	require.NoError(t, set(4))
	require.Equal(t, 4, rules())
	n.Stop()

	n.dp.workers[0].running = true // but it does not
	_, err := n.RemoveTap(port, TapRX)
	require.ErrorIs(t, err, ErrTimeout)
	n.dp.workers[0].running = false
	require.NoError(t, n.Start())
	require.Eventually(t, func() bool { _, err := n.TapCounters(port, TapRX); return err != nil }, time.Second, time.Millisecond)
	n.Stop()
	require.NoError(t, set(1))
	_, err = n.RemoveTap(port, TapRX)
	require.NoError(t, err)
	require.Equal(t, empty, graphtest.HeapInUse())
}

// Without memory for another tap the one that is there goes on.
func TestTapWithoutMemory(t *testing.T) {
	n, port := newInstance(t, "no_memory", false)
	set := func(rules int) error {
		_, err := n.SetTap(Tap{Port: port, Out: port, Header: make([]byte, TapHeaderLen), Rules: make([]TapRule, rules)})
		return err
	}
	require.NoError(t, set(1))
	giveBack := graphtest.FillHeap()
	require.ErrorIs(t, set(MaxTapRules), ErrFull)
	giveBack()
	c, err := n.TapCounters(port, TapRX)
	require.NoError(t, err)
	require.Len(t, c.Rules, 1)
	require.NoError(t, set(MaxTapRules))
}
