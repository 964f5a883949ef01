// SPDX-License-Identifier: Apache-2.0

package ethdev_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/cgo/eal"
	"dpservice/cgo/ethdev"
	"dpservice/cgo/mempool"
	"dpservice/test/plugin"
)

// The test's kernel interfaces: veth is a port's twin, peer is its other end.
var (
	veth = fmt.Sprintf("ed%d", os.Getpid())
	peer = veth + "p"
)

// nicPort is a port of net_eswitch that is never without packets: they come from net_null1, whose id is before its own.
const nicPort = 4

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if err := ip("link", "add", veth, "type", "veth", "peer", "name", peer); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ip("link", "del", veth)) }()
	err = errors.Join(ip("link", "set", veth, "up"), ip("link", "set", peer, "up"))
	if err != nil {
		return 0, err
	}
	driver, remove, err := plugin.Install()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	err = eal.Init([]string{
		"--no-huge", "-m", "128", "--no-pci", "--file-prefix", fmt.Sprintf("ethdev-test-%d", os.Getpid()), "-l", "0",
		"-d", driver, "--vdev=net_null0,no-rx=1", "--vdev=net_ring0", "--vdev=net_af_packet0,iface=" + veth,
		"--vdev=net_null1", "--vdev=net_eswitch0,pf0=net_null1",
	})
	if err != nil {
		return 0, err
	}
	// The NIC's ports close before the far side that it owns.
	defer func() { err = errors.Join(err, ethdev.Close(nicPort), eal.Cleanup()) }()
	return m.Run(), nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

func find(t *testing.T, name string) uint16 {
	t.Helper()
	id, err := ethdev.Find(name)
	require.NoError(t, err)
	return id
}

func TestListAndFind(t *testing.T) {
	assert.Equal(t, []uint16{0, 1, 2, nicPort}, ethdev.List())
	assert.Equal(t, uint16(0), find(t, "net_null0"))
	assert.Equal(t, find(t, "net_af_packet0"), find(t, veth))
	for _, name := range []string{"net_null1", peer, "lo", ""} {
		_, err := ethdev.Find(name)
		assert.ErrorIs(t, err, ethdev.ErrNotFound, name)
	}
}

func TestInfo(t *testing.T) {
	info, err := ethdev.GetInfo(find(t, "net_af_packet0"))
	require.NoError(t, err)
	twin, err := net.InterfaceByName(veth)
	require.NoError(t, err)
	assert.Equal(t, ethdev.Info{
		Name: "net_af_packet0", Driver: "net_af_packet", MAC: twin.HardwareAddr, MTU: 1500, IfIndex: twin.Index,
		RepresentorID: -1,
		MaxRxQueues:   1, MaxTxQueues: 1,
	}, info)

	_, err = ethdev.GetInfo(17)
	assert.ErrorIs(t, err, ethdev.ErrNotFound)
}

func TestPortsLife(t *testing.T) {
	pool, err := mempool.NewPktmbuf("ethdev", 1023, 0, 0, mempool.DataRoom)
	require.NoError(t, err)
	defer pool.Free()
	id := find(t, veth)

	assert.Error(t, ethdev.Start(id), "not configured")
	assert.ErrorContains(t, ethdev.Configure(id, ethdev.Config{RxQueues: 1}), "RX queues need a pool")
	assert.ErrorIs(t, ethdev.Configure(id, ethdev.Config{RxQueues: 100, TxQueues: 1, Pool: pool}), syscall.EINVAL)
	require.NoError(t, ethdev.Configure(id, ethdev.Config{RxQueues: 1, TxQueues: 1, RxDescs: 512, TxDescs: 512,
		Pool: pool}))
	require.NoError(t, ethdev.Start(id))
	assert.ErrorIs(t, ethdev.Configure(id, ethdev.Config{TxQueues: 1}), syscall.EBUSY)
	require.NoError(t, ethdev.SetPromiscuous(id, true))
	assert.True(t, promiscuous(t))
	require.NoError(t, ethdev.SetPromiscuous(id, false))
	assert.False(t, promiscuous(t))
	link, err := ethdev.GetLink(id)
	require.NoError(t, err)
	assert.True(t, link.Up)

	require.NoError(t, ethdev.Stop(id))
	require.NoError(t, ethdev.Configure(id, ethdev.Config{RxQueues: 1, TxQueues: 1, Pool: pool}),
		"once more, with defaults")
	require.NoError(t, ethdev.Start(id))
	require.NoError(t, ethdev.Stop(id))
}

// Devices with several queues take them, whether they can tell flows apart (net_null, net_eswitch) or not (net_ring).
func TestSeveralQueues(t *testing.T) {
	pool, err := mempool.NewPktmbuf("queues", 4095, 0, 0, mempool.DataRoom)
	require.NoError(t, err)
	defer pool.Free()
	for _, name := range []string{"net_null0", "net_eswitch0", "net_ring0"} {
		id := find(t, name)
		info, err := ethdev.GetInfo(id)
		require.NoError(t, err)
		n := min(info.MaxRxQueues, info.MaxTxQueues, 2)
		require.NoError(t, ethdev.Configure(id, ethdev.Config{RxQueues: n, TxQueues: n, RxDescs: 64, Pool: pool}), name)
		require.NoError(t, ethdev.Start(id), name)
		require.NoError(t, ethdev.Stop(id), name)
	}
}

// What nobody fetches fills the queue, which holds as many packets as it has descriptors.
func TestDescriptors(t *testing.T) {
	const driverDefault = 512
	for _, tt := range []struct{ asked, want int }{{0, driverDefault}, {64, 64}, {60_000, 4096}} {
		pool, err := mempool.NewPktmbuf("descriptors", 8191, 0, 0, mempool.DataRoom)
		require.NoError(t, err)
		free := pool.Available()
		require.NoError(t, ethdev.Configure(nicPort,
			ethdev.Config{RxQueues: 1, TxQueues: 1, RxDescs: uint16(tt.asked), Pool: pool}))
		require.NoError(t, ethdev.Start(nicPort))
		assert.Eventually(t, func() bool { return free-pool.Available() == tt.want }, 10*time.Second, time.Millisecond, "%+v",
			tt)
		before, err := ethdev.GetStats(nicPort)
		require.NoError(t, err)
		assert.Eventually(t, func() bool {
			now, err := ethdev.GetStats(nicPort)
			return err == nil && now.RxMissed > before.RxMissed
		}, 10*time.Second, time.Millisecond)
		assert.Equal(t, tt.want, free-pool.Available(), "full")
		require.NoError(t, ethdev.Stop(nicPort))
		pool.Free()
	}
}

// promiscuous asks the kernel about the twin.
func promiscuous(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command("ip", "-d", "link", "show", veth).Output()
	require.NoError(t, err)
	return strings.Contains(string(out), "PROMISC")
}

func TestStats(t *testing.T) {
	pool, err := mempool.NewPktmbuf("stats", 1023, 0, 0, mempool.DataRoom)
	require.NoError(t, err)
	defer pool.Free()
	id := find(t, "net_null0")
	require.NoError(t, ethdev.Configure(id, ethdev.Config{RxQueues: 1, TxQueues: 1, Pool: pool}))
	require.NoError(t, ethdev.Start(id))
	defer func() { require.NoError(t, ethdev.Stop(id)) }()

	stats, err := ethdev.GetStats(id)
	require.NoError(t, err)
	assert.Equal(t, ethdev.Stats{}, stats, "nobody polls")
	xstats, err := ethdev.Xstats(id)
	require.NoError(t, err)
	names := map[string]uint64{}
	for _, x := range xstats {
		names[x.Name] = x.Value
	}
	assert.Contains(t, names, "rx_good_packets")
	assert.Contains(t, names, "tx_good_bytes")
}

func TestCallsForAPortThatDoesNotExist(t *testing.T) {
	_, link := ethdev.GetLink(17)
	_, stats := ethdev.GetStats(17)
	_, xstats := ethdev.Xstats(17)
	for name, err := range map[string]error{
		"link": link, "stats": stats, "xstats": xstats, "configure": ethdev.Configure(17, ethdev.Config{}),
		"start": ethdev.Start(17),
		"stop":  ethdev.Stop(17), "close": ethdev.Close(17), "promiscuous": ethdev.SetPromiscuous(17, true),
	} {
		assert.ErrorIs(t, err, ethdev.ErrNotFound, name)
	}
}

// Runs last: closed ports do not come back.
func TestZClose(t *testing.T) {
	id := find(t, "net_ring0")
	require.NoError(t, ethdev.Close(id))
	assert.NotContains(t, ethdev.List(), id)
	_, err := ethdev.Find("net_ring0")
	assert.ErrorIs(t, err, ethdev.ErrNotFound)
}
