// SPDX-License-Identifier: Apache-2.0

// Package scale measures captures over many simulated nodes: real agents on a real API server, with daemons that are
// models. All agents are in one process, each with its own connections and caches.
package scale

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"dpservice/tools/fleet/agent"
	"dpservice/tools/fleet/api/v1alpha1"
	"dpservice/tools/fleet/summary"
	"dpservice/tools/fleet/test/cluster"
	"dpservice/tools/fleet/test/fakedaemon"
)

var (
	nodes  = flag.Int("nodes", 20, "how many nodes to simulate")
	steady = flag.Duration("steady", 10*time.Second, "how long to watch the capture while packets are copied")
)

// patience bounds each step. A test asserts that it happens; how long it takes is only shown.
const patience = 10 * time.Minute

// simulation is a cluster with simulated nodes.
type simulation struct {
	t       *testing.T
	ctx     context.Context
	cluster *cluster.Cluster
	client  client.Client
	daemons []*fakedaemon.Daemon
	calls   atomic.Int64 // of the agents to the API server, without watches
	running sync.WaitGroup
}

func TestManyNodes(t *testing.T) {
	ctrl.SetLogger(logr.Discard())
	ctx, cancel := context.WithCancel(context.Background())
	s := &simulation{t: t, ctx: ctx, cluster: cluster.Start(t)}
	t.Cleanup(func() {
		cancel()
		s.running.Wait()
	})
	s.client = s.cluster.Client(t)
	m := s.newManager(s.cluster.Config, client.Options{})
	require.NoError(t, summary.Add(m, time.Minute))
	s.run(m)

	before := heap()
	for i := range *nodes {
		s.startAgent(i)
	}
	s.eventually("all agents are at work", func() bool {
		return !slices.ContainsFunc(s.daemons, func(d *fakedaemon.Daemon) bool { return !d.Asked() })
	})
	t.Logf("%d agents: %d KiB of heap each, %.1f calls each to start", *nodes, (heap()-before)>>10/int64(*nodes), s.perNode())

	vni := int32(100)
	capture := &v1alpha1.PacketCapture{
		ObjectMeta: metav1.ObjectMeta{Name: "scale"},
		Spec: v1alpha1.PacketCaptureSpec{
			Targets: v1alpha1.Targets{VNI: &vni}, Sink: v1alpha1.Sink{Address: "fc00:99::1", Port: 3010},
		},
	}
	s.calls.Store(0)
	begun, cpu := time.Now(), cpuTime()
	require.NoError(t, s.client.Create(ctx, capture))
	s.eventually("all daemons capture", func() bool { return s.started() == *nodes })
	t.Logf("%s until all daemons captured", time.Since(begun).Round(time.Millisecond))
	s.eventually("the summary knows", func() bool { return int(s.state().Status.Nodes.Active) == *nodes })
	t.Logf("%s until the summary said so; %.1f calls for each node, %s of CPU in all, the API server's included",
		time.Since(begun).Round(time.Millisecond), s.perNode(), cpuTime()-cpu)

	s.calls.Store(0)
	cpu = cpuTime()
	s.copyPackets()
	t.Logf("with packets, %.2f calls a second for each node, %.2f CPUs in all", s.perNode()/steady.Seconds(),
		(cpuTime()-cpu).Seconds()/steady.Seconds())

	s.calls.Store(0)
	begun = time.Now()
	require.NoError(t, s.client.Delete(ctx, capture))
	s.eventually("it is gone", func() bool { return s.state().Name == "" })
	t.Logf("%s until it was gone everywhere, %.1f calls for each node", time.Since(begun).Round(time.Millisecond), s.perNode())
	for _, d := range s.daemons {
		status, err := d.Captures(ctx)
		require.NoError(t, err)
		require.Empty(t, status.Sessions)
	}
}

func (s *simulation) newManager(config *rest.Config, options client.Options) manager.Manager {
	s.t.Helper()
	m, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: s.cluster.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Client: options,
	})
	require.NoError(s.t, err)
	return m
}

func (s *simulation) run(m manager.Manager) {
	s.running.Go(func() {
		if err := m.Start(s.ctx); err != nil {
			s.t.Error(err)
		}
	})
}

func (s *simulation) startAgent(i int) {
	s.t.Helper()
	node := fmt.Sprintf("hv%d", i)
	d := fakedaemon.New(fmt.Sprintf("fc00:1::%x", i+1))
	d.AddInterface(fmt.Sprintf("vm-%d", i), 100)
	s.daemons = append(s.daemons, d)
	config := rest.CopyConfig(s.cluster.Config)
	config.Dial = (&net.Dialer{}).DialContext // configurations with a dialer of their own share no connection
	config.WrapTransport = func(next http.RoundTripper) http.RoundTripper { return counter{next, s} }
	m := s.newManager(config, agent.ClientOptions())
	c := agent.Cluster{Client: m.GetClient(), Namespace: "dpservice", Node: node}
	require.NoError(s.t, agent.Add(m, agent.New(node, d, c, c, slog.New(slog.DiscardHandler)), c))
	s.run(m)
}

// counter counts requests.
type counter struct {
	next http.RoundTripper
	of   *simulation
}

// RoundTrip implements http.RoundTripper.
func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Get("watch") == "" {
		c.of.calls.Add(1)
	}
	return c.next.RoundTrip(r)
}

func (s *simulation) perNode() float64 { return float64(s.calls.Load()) / float64(*nodes) }

func (s *simulation) started() (n int) {
	for _, d := range s.daemons {
		n += d.Starts()
	}
	return n
}

func (s *simulation) state() (c v1alpha1.PacketCapture) {
	_ = s.client.Get(s.ctx, client.ObjectKey{Name: "scale"}, &c) // it may be gone
	return c
}

// copyPackets has all daemons copy packets for a while.
func (s *simulation) copyPackets() {
	for end := time.Now().Add(*steady); time.Now().Before(end); time.Sleep(time.Second) {
		for _, d := range s.daemons {
			d.Copy(1)
		}
	}
}

func (s *simulation) eventually(what string, holds func() bool) {
	s.t.Helper()
	require.Eventually(s.t, holds, patience, 100*time.Millisecond, what)
}

// heap returns how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// cpuTime returns how much of the CPUs this process has had.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
