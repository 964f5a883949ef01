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

// A request that a stuck worker does not answer comes back with an error. When the worker goes on it is carried out; an
// answer that nobody waits for any more does no harm.
func TestStuckWorker(t *testing.T) {
	pool, err := mempool.NewPktmbuf("nodes_test", 511, 0, 0, mempool.DataRoom)
	require.NoError(t, err)
	defer pool.Free()
	port, err := graphtest.NewPort("stuck", 1, pool)
	require.NoError(t, err)
	n, err := Create(Config{
		Name: "stuck", Ports: []Port{{ID: port.ID, Name: "stuck", VF: true}}, Workers: []int{1}, FlowCapacity: 64,
		PuntRate: 1, PuntBurst: 1, Pool: pool.Ptr(),
	})
	require.NoError(t, err)
	defer n.Free()
	i := Interface{Index: 1, Port: port.ID, VNI: 1, Underlay: netip.MustParseAddr("fc00::1")}

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
