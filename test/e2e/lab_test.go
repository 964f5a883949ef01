// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

const (
	testTimeout = 180 * time.Second
	// stateTimeout limits the wait for something that dpservice does by itself within a second or two.
	stateTimeout = 15 * time.Second
)

// lab is a network with a dpservice on every hypervisor, the guests' interfaces and the routes between them.
type lab struct {
	t       *testing.T
	ctx     context.Context
	net     *topology.Network
	daemons []*topology.Daemon
	vms     []*topology.Guest
}

// newNetwork builds a network that is removed when the test ends.
func newNetwork(t *testing.T, guests ...int) (context.Context, *topology.Network) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	n, err := topology.NewNetwork(guests...)
	require.NoError(t, err)
	labs.add(t)
	t.Cleanup(func() {
		require.NoError(t, n.Close())
		cancel()
	})
	return ctx, n
}

// newLab builds a lab and waits until all guests reach each other. guests has the number of guests of each hypervisor.
func newLab(t *testing.T, cfg topology.DaemonConfig, guests ...int) *lab {
	t.Helper()
	ctx, n := newNetwork(t, guests...)
	return startLab(ctx, t, n, cfg)
}

// startLab starts a dpservice on every hypervisor of a network and connects its guests.
func startLab(ctx context.Context, t *testing.T, n *topology.Network, cfg topology.DaemonConfig) *lab {
	t.Helper()
	b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests(), daemons: make([]*topology.Daemon, len(n.Hypervisors))}
	var g errgroup.Group
	for i, h := range n.Hypervisors {
		g.Go(func() (err error) {
			b.daemons[i], err = h.StartDaemon(ctx, cfg)
			return err
		})
	}
	require.NoError(t, g.Wait())
	for i, h := range n.Hypervisors {
		logFailure(t, h, b.daemons[i])
	}
	b.connect()
	return b
}

func startDaemon(ctx context.Context, t *testing.T, h *topology.Hypervisor,
	cfg topology.DaemonConfig) *topology.Daemon {
	t.Helper()
	d, err := h.StartDaemon(ctx, cfg)
	require.NoError(t, err)
	logFailure(t, h, d)
	return d
}

// logFailure logs a daemon's output and counters if the test fails.
func logFailure(t *testing.T, h *topology.Hypervisor, d *topology.Daemon) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dpservice on %s said:\n%s%s", h.Name, d.Stdout, d.Stderr)
			logCounters(t, d)
		}
	})
}

// logCounters logs the counters of a daemon's NIC and graph, if it still runs.
func logCounters(t *testing.T, d *topology.Daemon) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	for _, args := range [][]string{{"port", "stats"}, {"graph", "stats"}} {
		if r, err := d.Dpctl(ctx, args...); err == nil && r.Code == 0 {
			t.Logf("dpctl %s\n%s", strings.Join(args, " "), r.Stdout)
		}
	}
}

// connect creates the guests' interfaces, and the routes to the guests of other hypervisors.
func (b *lab) connect() {
	b.t.Helper()
	require.NoError(b.t, topology.Connect(b.ctx, b.net, b.daemons))
}

// eventually waits for cond to become true.
func (b *lab) eventually(cond func() error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stateTimeout)
	defer cancel()
	require.NoError(b.t, topology.Until(ctx, cond))
}

// call calls a method without parameters of the first hypervisor's daemon. The call must succeed.
func (b *lab) call(method api.AnyMethod, result any) {
	b.t.Helper()
	require.NoError(b.t, b.daemons[0].Call(b.ctx, method, nil, result))
}

// dpctl runs dpctl on the first hypervisor's daemon. It must succeed.
func (b *lab) dpctl(args ...string) string {
	b.t.Helper()
	r, err := b.daemons[0].Dpctl(b.ctx, args...)
	require.NoError(b.t, err)
	require.NoError(b.t, r.Err(), "dpctl %v", args)
	return r.Stdout
}

// record starts a recording, which is stopped when the test ends if it still runs.
func (b *lab) record(ns *topology.Namespace, device string, dir record.Direction, filter string) *record.Recorder {
	b.t.Helper()
	file := b.net.Path(fmt.Sprintf("%s-%s-%s-%d.pcap", ns.Name, device, dir, time.Now().UnixNano()))
	r, err := record.Start(b.ctx, ns, device, file, dir, filter)
	require.NoError(b.t, err)
	return r
}

// stopRecording ends a recording and returns its frames.
func (b *lab) stopRecording(r *record.Recorder) []record.Frame {
	b.t.Helper()
	return b.stopRecordings(r)[0]
}

// stopRecordings ends recordings concurrently, as each takes a while, and returns the frames of each.
func (b *lab) stopRecordings(recorders ...*record.Recorder) [][]record.Frame {
	b.t.Helper()
	frames := make([][]record.Frame, len(recorders))
	var g errgroup.Group
	for i, r := range recorders {
		g.Go(func() (err error) {
			frames[i], err = r.Stop(b.ctx)
			return err
		})
	}
	require.NoError(b.t, g.Wait())
	return frames
}

// waitFrames waits until a recording has this number of frames.
func (b *lab) waitFrames(r *record.Recorder, want int) {
	b.t.Helper()
	b.eventually(func() error {
		frames, err := r.Frames()
		if err == nil && len(frames) < want {
			err = fmt.Errorf("%d of %d frames", len(frames), want)
		}
		return err
	})
}

// softwareLookups returns how many packets the first daemon's software path has looked up in its flow table.
func (b *lab) softwareLookups() uint64 {
	b.t.Helper()
	return b.nodePackets("flow_lookup")
}

// nicCounter returns a counter of the first daemon's NIC, as the sum over its ports.
func (b *lab) nicCounter(name string) (sum uint64) {
	b.t.Helper()
	if command := b.net.NIC.CountersCommand; command != "" {
		var answer map[string]map[string]map[string]uint64
		b.ask(command, &answer)
		for _, port := range answer[command] {
			sum += port[name]
		}
		return sum
	}
	var stats api.PortStatsResult
	b.call(api.MethodPortStats, &stats)
	for _, p := range stats.Ports {
		sum += p.Xstats[name]
	}
	return sum
}

// forwarded returns how many packets the first daemon's flows have counted.
func (b *lab) forwarded() (sum uint64) {
	b.t.Helper()
	flows, err := b.flows(b.daemons[0], "", "", "")
	require.NoError(b.t, err)
	for _, f := range flows {
		sum += f.Packets
	}
	return sum
}

// waitForwarded waits until the flows have counted this number of further packets.
func (b *lab) waitForwarded(more uint64) {
	b.t.Helper()
	before := b.forwarded()
	b.eventually(func() error {
		if got := b.forwarded(); got < before+more {
			return fmt.Errorf("flows have had %d of %d packets more", got-before, more)
		}
		return nil
	})
}

// rules returns the rules in the first daemon's NIC, without their counters.
func (b *lab) rules() []api.Rule {
	b.t.Helper()
	var list api.RuleListResult
	b.call(api.MethodRuleList, &list)
	for i := range list.Rules {
		list.Rules[i].Hits, list.Rules[i].Bytes = nil, nil
	}
	return list.Rules
}

// flows returns a daemon's flows of a protocol from one address to another. Each of the three may be "" for any.
func (b *lab) flows(d *topology.Daemon, proto, src, dst string) ([]api.Flow, error) {
	var list api.FlowListResult
	filter := map[string]any{}
	for key, value := range map[string]string{"proto": proto, "src": src, "dst": dst} {
		if value != "" {
			filter[key] = value
		}
	}
	err := d.Call(b.ctx, api.MethodFlowList, map[string]any{"filter": filter, "limit": api.MaxFlows}, &list)
	return list.Flows, err
}

var errNotOffloaded = errors.New("not offloaded")

// waitOffloaded waits until a daemon's NIC has this number of flows of a protocol from src to dst.
func (b *lab) waitOffloaded(d *topology.Daemon, want int, proto, src, dst string) {
	b.t.Helper()
	b.eventually(func() error {
		flows, err := b.flows(d, proto, src, dst)
		if err != nil {
			return err
		}
		got := 0
		for _, f := range flows {
			if f.Offloaded {
				got++
			}
		}
		if got < want {
			return fmt.Errorf("%d of %d %s flows from %s to %s: %w: %+v", got, want, proto, src, dst, errNotOffloaded, flows)
		}
		return nil
	})
}
