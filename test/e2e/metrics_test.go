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

	"dpservice/test/topology"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

// TestMetrics scrapes a daemon that forwards and captures, as Prometheus does.
func TestMetrics(t *testing.T) {
	ctx, n := newNetwork(t, 2)
	socket := n.Path("metrics.sock")
	b := &bench{t: t, ctx: ctx, net: n, vms: n.Guests()}
	b.daemons = []*topology.Daemon{startDaemon(ctx, t, n.Hypervisors[0], topology.DaemonConfig{Extra: fmt.Sprintf("metrics: \"unix:%s\"\n", socket)})}
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
			"dpservice_capture_sessions": 1, "dpservice_offload_rules_created_total": 2, "dpservice_graph_node_packets_total": 10,
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

// scrape returns the sums of the metrics by their names.
func scrape(ctx context.Context, socket string) (map[string]float64, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
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
	families, err := parser.TextToMetricFamilies(r.Body)
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for name, f := range families {
		for _, m := range f.Metric {
			sums[name] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return sums, nil
}
