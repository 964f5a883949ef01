// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/topology"
)

// TestAlerts has promtool check the alerts, and play those that alerts_test.yaml says.
func TestAlerts(t *testing.T) {
	promtool := built(t, "prometheus/usr/bin/promtool")
	for _, argv := range [][]string{
		{promtool, "check", "rules", filepath.Join(files, "alerts.yaml")},
		{promtool, "test", "rules", filepath.Join(files, "alerts_test.yaml")},
	} {
		out, err := run(t, argv...)
		require.NoError(t, err, "%s", out)
	}
}

// Where Prometheus listens, and what it scrapes.
const (
	metricsAddress    = "127.0.0.1:9464"
	prometheusAddress = "127.0.0.1:9090"
)

// TestPrometheus has a real Prometheus scrape a daemon, with the alerts loaded: every metric that alerts and
// dashboard name is there, and no alert fires that says the daemon is ill.
func TestPrometheus(t *testing.T) {
	rules, err := filepath.Abs(filepath.Join(files, "alerts.yaml"))
	require.NoError(t, err)
	ctx, n, d := startDaemon(t, topology.DaemonConfig{Extra: "metrics: " + metricsAddress + "\n"}, 2)
	_, err = d.CreateInterfaces(ctx)
	require.NoError(t, err)
	r, err := d.Dpctl(ctx, "capture", "start", "--sink-node-ip="+n.SinkIP.String(), "--udp-src-port=3000",
		"--udp-dst-port=3010", "--vf="+n.Guests()[0].ID)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	vms := n.Guests()
	const nowhere = "203.0.113.1" // so that there are drops to count
	for _, to := range []string{vms[1].IPv4.String(), nowhere} {
		_, err = vms[0].Start("ping", "-n", "-q", "-i", "0.2", to)
		require.NoError(t, err)
	}

	config := n.Path("prometheus.yaml")
	require.NoError(t, os.WriteFile(config, []byte(fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - {job_name: dpservice, static_configs: [{targets: [%q]}]}
`, rules, metricsAddress)), 0o600))
	h := n.Hypervisors[0]
	prometheus, err := h.Start(built(t, "prometheus/usr/bin/prometheus"), "--config.file="+config,
		"--storage.tsdb.path="+n.Path("prometheus"), "--web.listen-address="+prometheusAddress)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Prometheus said:\n%s", prometheus.Stderr)
		}
	})

	require.NoError(t, topology.Until(ctx, func() error {
		for _, name := range metricNames(t) {
			if err := scraped(ctx, h, name); err != nil {
				return err
			}
		}
		return nil
	}))
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, State, LastError string }
			}
		}
	}
	require.NoError(t, topology.Until(ctx, func() error {
		if err := query(ctx, h, "/api/v1/rules", &answer); err != nil {
			return err
		}
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
				}
			}
		}
		return nil
	}))
	require.Len(t, answer.Data.Groups, 1)
	assert.Greater(t, len(answer.Data.Groups[0].Rules), 10)
	for _, r := range answer.Data.Groups[0].Rules {
		assert.NotEqual(t, "firing", r.State, r.Name)
	}
}

// scraped reports whether Prometheus has values of a metric.
func scraped(ctx context.Context, h *topology.Hypervisor, name string) error {
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	if err := query(ctx, h, "/api/v1/query?query="+name, &answer); err != nil {
		return err
	}
	if len(answer.Data.Result) == 0 {
		return fmt.Errorf("Prometheus has no %s", name)
	}
	return nil
}

// query asks Prometheus on a hypervisor.
func query(ctx context.Context, h *topology.Hypervisor, path string, answer any) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			inside := h.Inside(func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
				return err
			})
			return conn, inside
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+prometheusAddress+path, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("Prometheus: %s: %s", response.Status, text)
	}
	return json.Unmarshal(text, answer)
}

var metricName = regexp.MustCompile(`\b(dpservice|process)_[a-z_]+\b`)

// metricNames are those that the alerts and the dashboard ask for. A panic's is there only after one.
func metricNames(t *testing.T) []string {
	t.Helper()
	seen := map[string]bool{}
	for _, expr := range append(alertExpressions(t), dashboardExpressions(t)...) {
		for _, name := range metricName.FindAllString(expr, -1) {
			seen[name] = true
		}
	}
	require.True(t, seen["dpservice_panics_total"])
	delete(seen, "dpservice_panics_total")
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	require.Greater(t, len(names), 20)
	return names
}

func alertExpressions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(files, "alerts.yaml"))
	require.NoError(t, err)
	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert string
				Expr  string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &alerts))
	var all []string
	for _, r := range alerts.Groups[0].Rules {
		all = append(all, r.Expr)
	}
	return all
}

func dashboardExpressions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(files, "dashboard.json"))
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	ids := map[int]bool{}
	var all []string
	for _, p := range dashboard.Panels {
		assert.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		ids[p.ID] = true
		assert.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

// TestAlertsAreExplained looks for what to do about each alert.
func TestAlertsAreExplained(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	alerts, err := os.ReadFile(filepath.Join(files, "alerts.yaml"))
	require.NoError(t, err)
	names := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(alerts), -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		assert.True(t, strings.Contains(string(text), "`"+name[1]+"`"), name[1])
	}
}
