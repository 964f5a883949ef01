// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"dpservice/tools/fleet/api/v1alpha1"
	"dpservice/tools/fleet/collector"
	"dpservice/tools/fleet/test/cluster"
)

// folder is a Store that keeps files in a folder, and fails at first.
type folder struct {
	dir      string
	mu       sync.Mutex
	failures int
}

func (f *folder) Put(_ context.Context, name, file string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failures > 0 {
		f.failures--
		return os.ErrDeadlineExceeded
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	to := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// Two captures are received at ports of their own, into files of their own, under the names that the nodes report; a
// file is taken away when it is complete, also if the store was not there at first.
func TestEachCaptureHasItsOwnFiles(t *testing.T) {
	ctrl.SetLogger(logr.Discard())
	c := cluster.Start(t)
	store := &folder{dir: t.TempDir(), failures: 2}
	start(t, c, store)
	client := c.Client(t)
	captures := map[string]*v1alpha1.PacketCapture{"a": newCapture("a", "default"), "b": newCapture("b", "default")}
	for _, of := range captures {
		require.NoError(t, client.Create(t.Context(), of))
		require.NoError(t, client.Create(t.Context(), newReport(of)))
	}
	require.NoError(t, client.Create(t.Context(), newCapture("other", "another")))

	var p v1alpha1.PacketCollector
	require.Eventually(t, func() bool { p = published(t, client); return len(p.Captures) == 2 }, time.Minute,
		100*time.Millisecond, "the collector receives both, and not that of another pool")
	assert.NotEqual(t, p.Captures[0].Port, p.Captures[1].Port)
	assert.Equal(t, "::1", p.Address)
	time.Sleep(time.Second) // its cache knows the reports
	for _, of := range p.Captures {
		frame := []byte("0123456789abcd of " + of.UID)
		send(t, of.Port, 7, frame)
	}
	for _, of := range captures {
		require.NoError(t, client.Delete(t.Context(), of))
	}
	require.Eventually(t, func() bool { return len(published(t, client).Captures) == 0 }, time.Minute,
		100*time.Millisecond, "all files are taken away")
	for name, of := range captures {
		files, err := filepath.Glob(filepath.Join(store.dir, of.Folder(), "collector-0_*.pcapng"))
		require.NoError(t, err)
		require.Len(t, files, 1, name)
		in, err := os.Open(files[0])
		require.NoError(t, err)
		defer in.Close()
		r, err := pcapgo.NewNgReader(in, pcapgo.DefaultNgReaderOptions)
		require.NoError(t, err)
		data, info, err := r.ReadPacketData()
		require.NoError(t, err)
		assert.Equal(t, "0123456789abcd of "+string(of.UID), string(data))
		from, err := r.Interface(info.InterfaceIndex)
		require.NoError(t, err)
		assert.Equal(t, "hv1/vm-1-tx", from.Name)
		assert.Contains(t, from.Comment, "VNI 100")
		assert.Contains(t, from.Comment, "capture "+name)
	}
}

func start(t *testing.T, c *cluster.Cluster, store collector.Store) {
	t.Helper()
	m, err := ctrl.NewManager(c.Config, ctrl.Options{
		Scheme: c.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Client: collector.ClientOptions(),
	})
	require.NoError(t, err)
	require.NoError(t, collector.Add(m, collector.Config{
		Name: "collector-0", Namespace: "dpservice", Pool: "default", Address: netip.IPv6Loopback(), FirstPort: 23100,
		Ports: 64, Dir: t.TempDir(), Buffer: 1 << 20, Upload: store,
	}, slog.New(slog.DiscardHandler)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- m.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
}

func published(t *testing.T, c client.Client) (p v1alpha1.PacketCollector) {
	t.Helper()
	err := c.Get(t.Context(), client.ObjectKey{Namespace: "dpservice", Name: "collector-0"}, &p)
	require.NoError(t, client.IgnoreNotFound(err))
	return p
}

func newCapture(name, pool string) *v1alpha1.PacketCapture {
	return &v1alpha1.PacketCapture{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.PacketCaptureSpec{
			Targets: v1alpha1.Targets{All: true}, Encap: "vxlan", Sink: v1alpha1.Sink{Collector: pool},
		},
	}
}

// newReport is a node's report, whose address is where the test sends from.
func newReport(of *v1alpha1.PacketCapture) *v1alpha1.PacketCaptureNode {
	return &v1alpha1.PacketCaptureNode{
		ObjectMeta:  metav1.ObjectMeta{Name: of.Name + ".hv1", Labels: map[string]string{v1alpha1.LabelCapture: of.Name}},
		CaptureName: of.Name, CaptureUID: string(of.UID), NodeName: "hv1",
		Status: v1alpha1.NodeStatus{
			State: v1alpha1.Active, UnderlayIP: "::1",
			Interfaces: []v1alpha1.NodeInterface{{Name: "vm-1", VNI: 100, Direction: "tx", Label: 7, Mode: "hardware"}},
		},
	}
}

// send sends a copy in VXLAN.
func send(t *testing.T, port int32, label uint32, frame []byte) {
	t.Helper()
	conn, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.IPv6loopback, Port: int(port)})
	require.NoError(t, err)
	defer conn.Close()
	const valid = 0x08000000
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, valid), label<<8)
	_, err = conn.Write(append(header, frame...))
	require.NoError(t, err)
}
