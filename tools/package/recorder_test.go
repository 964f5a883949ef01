// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/topology"
)

// TestARuleTriggersTheFlightRecorder lets a guest's packets be dropped until a rule of a real Prometheus fires. A real
// Alertmanager tells a flight recorder, whose file has what the guest sent before that.
func TestARuleTriggersTheFlightRecorder(t *testing.T) {
	ctx, n, d := startDaemon(t, topology.DaemonConfig{Extra: "metrics: " + metricsAddress + "\n"}, 2)
	_, err := d.CreateInterfaces(ctx)
	require.NoError(t, err)
	h, vms := n.Hypervisors[0], n.Guests()
	sink, recorded := h.UnderlayIP.String(), n.Path("fault.pcapng")
	const webhook, alertmanagerAddress, nowhere = "http://127.0.0.1:9119", "127.0.0.1:9093", "203.0.113.1"

	// The dataplane has the address on the wire, and the recorder on this machine.
	r, err := h.Run(ctx, "sh", "-ec", `sysctl -qw net.ipv6.conf.lo.disable_ipv6=0; ip addr add "$0" dev lo nodad`, sink)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	recorder, err := h.Start(d.DpctlPath(), "capture", "receive", "--listen="+sink, "--udp-dst-port=3010", "-w", recorded,
		"--ring=60s,8M", "--trigger="+webhook)
	require.NoError(t, err)
	require.NoError(t, recorder.WaitOutput(ctx, recorder.Stderr, "receiving on"))
	r, err = d.Dpctl(ctx, "capture", "start", "--sink-node-ip="+sink, "--udp-dst-port=3010", "--vf="+vms[0].ID)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	r, err = vms[0].Run(ctx, "ping", "-n", "-q", "-c", "10", "-i", "0.1", vms[1].IPv4.String())
	require.NoError(t, err)
	require.NoError(t, r.Err())

	write := func(name, text string) string {
		file := n.Path(name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	rules := write("rules.yaml", `
groups:
  - name: test
    rules:
      - {alert: GuestLosesPackets, expr: 'rate(dpservice_dropped_packets_total{reason="no_route"}[10s]) > 1'}
`)
	prometheus := write("prometheus.yaml", fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs:
  - {job_name: dpservice, static_configs: [{targets: [%q]}]}
`, rules, alertmanagerAddress, metricsAddress))
	alertmanager := write("alertmanager.yaml", fmt.Sprintf(`
route: {receiver: recorder, group_wait: 0s}
receivers: [{name: recorder, webhook_configs: [{url: "%s/dump"}]}]
`, webhook))
	p, err := h.Start(built(t, "prometheus/usr/bin/prometheus"), "--config.file="+prometheus,
		"--storage.tsdb.path="+n.Path("prometheus"), "--web.listen-address="+prometheusAddress)
	require.NoError(t, err)
	// Debian's looks for its templates where the package would have put them: there they are, for this process.
	a, err := h.Start("unshare", "--mount", "sh", "-ec",
		`mount -t overlay overlay -o "lowerdir=$0/usr/share:/usr/share" /usr/share
		exec "$0/usr/bin/prometheus-alertmanager" "$@"`,
		built(t, "prometheus-alertmanager"), "--config.file="+alertmanager, "--storage.path="+n.Path("alertmanager"),
		"--web.listen-address="+alertmanagerAddress, "--cluster.listen-address=")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Prometheus:\n%s\nAlertmanager:\n%s\nrecorder:\n%s", p.Stderr, a.Stderr, recorder.Stderr)
		}
	})

	fault := time.Now()
	_, err = vms[0].Start("ping", "-n", "-q", "-i", "0.1", nowhere)
	require.NoError(t, err)
	var dumped []string
	require.NoError(t, topology.Until(ctx, func() error {
		dumped, err = filepath.Glob(strings.TrimSuffix(recorded, ".pcapng") + "_*.pcapng")
		if err == nil && len(dumped) == 0 {
			err = fmt.Errorf("no alert has had the recorder write")
		}
		return err
	}))
	_, err = recorder.Stop(ctx, syscall.SIGINT)
	require.NoError(t, err)
	out, err := run(t, "tshark", "-n", "-r", dumped[0], "-T", "fields", "-e", "frame.time_epoch", "-e", "ip.dst")
	require.NoError(t, err, out)
	before, after := 0, 0
	for line := range strings.Lines(out) {
		at, to, _ := strings.Cut(strings.TrimSpace(line), "\t")
		seconds, err := strconv.ParseFloat(at, 64)
		switch {
		case err != nil: // a word of tshark's on root
		case to == vms[1].IPv4.String() && time.UnixMicro(int64(seconds*1e6)).Before(fault):
			before++
		case to == nowhere:
			after++
		}
	}
	assert.Equal(t, 10, before, "what was before the fault is there")
	assert.Positive(t, after)
}
