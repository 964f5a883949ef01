// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"dpservice/test/record"
	"dpservice/test/topology"
	"dpservice/wire"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

// TestMetrics scrapes a daemon that forwards and captures, as Prometheus does.
func TestMetrics(t *testing.T) {
	ctx, n := newNetwork(t, 2)
	socket := n.Path("metrics.sock")
	b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}
	b.daemons = []*topology.Daemon{startDaemon(ctx, t, n.Hypervisors[0],
		topology.DaemonConfig{Extra: fmt.Sprintf("metrics: \"unix:%s\"\n", socket)})}
	b.connect()
	info, err := os.Stat(socket)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o660), info.Mode().Perm())

	b.reach(b.vms[0], b.vms[1].IPv4.String())
	b.dpctl(captureStart(n.SinkIP.String(), "--vf=vm-1")...)
	b.startPing(b.vms[0], b.vms[1].IPv4.String(), time.Second).wait()
	b.waitOffloaded(b.daemons[0], 1, "icmp", b.vms[0].IPv4.String(), b.vms[1].IPv4.String())

	b.eventually(func() error {
		values, err := scrape(ctx, socket)
		if err != nil {
			return err
		}
		for name, least := range map[string]float64{
			"dpservice_capture_copied_packets_total": 50, "dpservice_flows": 2, "dpservice_rules": 8, "dpservice_interfaces": 2,
			"dpservice_capture_sessions": 1, "dpservice_offload_rules_created_total": 2,
			"dpservice_graph_node_packets_total":   10,
			"dpservice_port_receive_packets_total": 2, "process_resident_memory_bytes": 1e6, "dpservice_port_xstat": 50,
		} {
			if values[name] < least {
				return fmt.Errorf("%s is %g, not %g: %v", name, values[name], least, values)
			}
		}
		return nil
	})
	require.NoError(t, b.daemons[0].Stop(ctx))
	require.NoFileExists(t, socket)
}

// TestCaptureMetrics compares the metrics of a filtered capture with the copies that arrive.
func TestCaptureMetrics(t *testing.T) {
	ctx, n := newNetwork(t, 2)
	socket := n.Path("metrics.sock")
	b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}
	b.daemons = []*topology.Daemon{startDaemon(ctx, t, n.Hypervisors[0],
		topology.DaemonConfig{Extra: fmt.Sprintf("metrics: \"unix:%s\"\n", socket)})}
	b.connect()
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	sink := b.record(n.Sink, "eth0", record.In, sinkFilter)
	b.dpctl(b.startOn("pings", 3010, "--vf=vm-1", "--filter=icmp and not src host "+vm2.IPv4.String())...)
	b.startPing(vm1, vm2.IPv4.String(), time.Second).wait()
	b.startPing(vm1, vm2.IPv6.String(), time.Second).wait()

	families, err := scrapeFamilies(ctx, socket)
	require.NoError(t, err)
	s := b.session()
	copies := b.stopRecording(sink)
	bytes := 0
	for _, f := range copies {
		bytes += len(f.Data) - wire.CopyHeaderLen
	}
	require.Greater(t, len(copies), 50)
	port := s.Interfaces[0].Port
	of := map[string]string{"session": "pings", "interface": "vm-1", "port": port}
	require.InDelta(t, len(copies), metricSum(families["dpservice_capture_copied_packets_total"], of), 0)
	require.InDelta(t, bytes, metricSum(families["dpservice_capture_copied_bytes_total"], of), 0)
	for i, r := range s.Interfaces[0].Rules {
		rule := map[string]string{
			"session": "pings", "interface": "vm-1", "port": port, "rule": fmt.Sprint(i + 1), "action": r.Action,
			"pattern": r.Pattern,
		}
		if r.Action == "sample" {
			require.InDelta(t, r.Packets, metricSum(families["dpservice_capture_rule_packets_total"], rule), 0)
		} // guests' other packets go on passing
	}
	of["action"] = "sample"
	require.InDelta(t, len(copies), metricSum(families["dpservice_capture_rule_packets_total"], of), 0)
	require.InDelta(t, bytes, metricSum(families["dpservice_capture_rule_bytes_total"], of), 0)
	of["action"] = "pass"
	require.Positive(t, metricSum(families["dpservice_capture_rule_packets_total"], of))
}

// metricSum returns the sum of a family's values with these labels.
func metricSum(f *dto.MetricFamily, labels map[string]string) (sum float64) {
	for _, m := range f.GetMetric() {
		matching := 0
		for _, l := range m.GetLabel() {
			if want, ok := labels[l.GetName()]; ok && want == l.GetValue() {
				matching++
			}
		}
		if matching == len(labels) {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

// scrape returns the sum of each metric by its name.
func scrape(ctx context.Context, socket string) (map[string]float64, error) {
	families, err := scrapeFamilies(ctx, socket)
	sums := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			sums[name] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return sums, err
}

// scrapeFamilies returns the metrics by their names.
func scrapeFamilies(ctx context.Context, socket string) (map[string]*dto.MetricFamily, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://dpservice/metrics", nil)
	if err != nil {
		return nil, err
	}
	r, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(r.Body)
}
