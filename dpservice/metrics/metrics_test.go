// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/spec"
	"dpservice/dpservice/fence"
	"dpservice/dpservice/flow"
	"dpservice/dpservice/port"
	"dpservice/dpservice/status"
	"dpservice/dpservice/uplink"
	"dpservice/graph"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

func sources() Sources {
	return Sources{
		Version: "1.2.3", DPDKVersion: "DPDK 22.11",
		Ports: func() ([]port.Stats, error) {
			return []port.Stats{{
				Port: port.Port{Name: "nic", Role: port.PF, LinkUp: true},
				Counters: port.Counters{RxPackets: 1, RxBytes: 2, RxErrors: 3, RxMissed: 4, RxNoMbuf: 5, TxPackets: 6, TxBytes: 7,
					TxErrors: 8},
				Xstats: []port.Xstat{{Name: `odd "name"`, Value: 9}},
			}, {Port: port.Port{Name: "vf", Role: port.VF, Index: 3, Removed: true}}}, nil
		},
		Uplinks: func() []uplink.Uplink {
			return []uplink.Uplink{
				{Name: "nic", LinkUp: true, RouterMAC: wire.MAC{2}, Source: uplink.Kernel},
				{Name: "nic1", Number: 1, LinkUp: true, Source: uplink.Discovery},
			}
		},
		Nodes: func() []status.Node {
			return []status.Node{{Name: "drop_no_route", Calls: 10, Packets: 11, Cycles: 12}}
		},
		Drops: func() []status.Drops {
			return []status.Drops{{Interface: "vm-1", Port: "vf", Reason: "spoofed", Packets: 44}, {Port: "nic", Reason: "ttl"}}
		},
		Flows: func() map[FlowClass]int { return map[FlowClass]int{{graph.StateEstablished, true}: 13} },
		Offload: func() flow.Stats {
			return flow.Stats{Created: 14, Aged: 15, Refused: 16, Limited: 17, Evicted: 18, Backlog: 19}
		},
		Shares: func() []status.FlowShare {
			return []status.FlowShare{{
				Interface: "vm-1", Origin: "wire", Flows: 30, FlowsEvicted: 31, Overflow: 32, Rules: 33, RulesEvicted: 34,
				Limited: 35,
			}}
		},
		Rules: func() map[ruleset.Group]int {
			return map[ruleset.Group]int{{Port: 1, Domain: "transfer", Number: 2}: 18}
		},
		PortName:   func(uint16) string { return "nic" },
		Interfaces: func() int { return 19 },
		Routes:     func() int { return 20 },
		AuditLost:  func() uint64 { return 26 },
		Captures: func() []spec.Session {
			point := spec.SessionInterface{Target: spec.Target{VF: "vm-1"}, Direction: spec.RX, Port: "vf", Packets: 21,
				Bytes: 22,
				Rules: []spec.SessionRule{{Pattern: "eth / end", Packets: 23, Bytes: 24},
					{Pattern: "eth / end", Sample: true, Packets: 25}}}
			return []spec.Session{{Name: "default", Interfaces: []spec.SessionInterface{point}}}
		},
	}
}

// page is what the server has answered.
type page struct {
	code int
	text []byte
}

// start serves metrics until the test ends, and returns how to get a page.
func start(t *testing.T, network, address string, s Sources) func(path string) page {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	go func() { served <- Serve(ctx, l, NewCollector(s, fence.New(log), log), log) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, l.Addr().String())
		}}}
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	return func(path string) page {
		r, err := client.Get("http://dpservice" + path)
		require.NoError(t, err)
		text, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		return page{r.StatusCode, text}
	}
}

// parse reads a page as Prometheus does.
func parse(t *testing.T, p page) map[string]*dto.MetricFamily {
	t.Helper()
	require.Equal(t, http.StatusOK, p.code)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(p.text))
	require.NoError(t, err)
	return families
}

// value is the value of the only metric of a family that has these labels, given as name, value, name, value...
func value(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	require.Contains(t, families, name)
	var found []float64
	for _, m := range families[name].Metric {
		have := []string{}
		for _, l := range m.Label {
			have = append(have, l.GetName(), l.GetValue())
		}
		if assert.ObjectsAreEqual(append([]string{}, labels...), have) {
			found = append(found, m.GetCounter().GetValue()+m.GetGauge().GetValue()+m.GetUntyped().GetValue())
		}
	}
	require.Len(t, found, 1, "%s %v among %v", name, labels, families[name])
	return found[0]
}

func TestScrape(t *testing.T) {
	listeners := map[string]string{"unix": filepath.Join(t.TempDir(), "m"), "tcp": "127.0.0.1:0"}
	for network, address := range listeners {
		t.Run(network, func(t *testing.T) {
			get := start(t, network, address, sources())
			f := parse(t, get("/metrics"))
			pf, vf := []string{"port", "nic", "role", "pf0"}, []string{"port", "vf", "role", "vf3"}
			assert.InDelta(t, 1, value(t, f, "dpservice_info", "dpdk_version", "DPDK 22.11", "version", "1.2.3"), 0)
			assert.InDelta(t, 1, value(t, f, "dpservice_port_up", pf...), 0)
			assert.InDelta(t, 0, value(t, f, "dpservice_port_removed", pf...), 0)
			assert.InDelta(t, 1, value(t, f, "dpservice_port_removed", vf...), 0)
			assert.InDelta(t, 0, value(t, f, "dpservice_port_up", vf...), 0)
			for i, want := range []float64{1, 0} {
				labels := []string{"port", []string{"nic", "nic1"}[i], "role", []string{"pf0", "pf1"}[i]}
				assert.InDelta(t, want, value(t, f, "dpservice_uplink_usable", labels...), 0)
				from := []string{"from", []string{"kernel", "neighbour_discovery"}[i]}
				assert.InDelta(t, want, value(t, f, "dpservice_uplink_router_known", append(from, labels...)...), 0)
			}
			for i, name := range []string{
				"receive_packets", "receive_bytes", "receive_errors", "receive_missed", "receive_no_buffer",
				"transmit_packets", "transmit_bytes", "transmit_errors",
			} {
				assert.InDelta(t, i+1, value(t, f, "dpservice_port_"+name+"_total", pf...), 0)
			}
			assert.InDelta(t, 9, value(t, f, "dpservice_port_xstat", "name", `odd "name"`, "port", "nic", "role", "pf0"), 0)
			for i, name := range []string{"calls", "packets", "cycles"} {
				assert.InDelta(t, 10+i, value(t, f, "dpservice_graph_node_"+name+"_total", "node", "drop_no_route"), 0)
			}
			assert.InDelta(t, 44, value(t, f, "dpservice_dropped_packets_total", "interface", "vm-1", "port", "vf", "reason",
				"spoofed"), 0)
			assert.InDelta(t, 13, value(t, f, "dpservice_flows", "offloaded", "true", "state", "established"), 0)
			for i, name := range []string{"rules_created", "rules_aged", "refused", "limited", "evicted"} {
				assert.InDelta(t, 14+i, value(t, f, "dpservice_offload_"+name+"_total"), 0)
			}
			assert.InDelta(t, 19, value(t, f, "dpservice_offload_backlog"), 0)
			for i, name := range []string{
				"flows", "flows_evicted_total", "flow_overflow_total", "rules", "rules_evicted_total", "limited_total",
			} {
				assert.InDelta(t, 30+i, value(t, f, "dpservice_interface_"+name, "interface", "vm-1", "origin", "wire"), 0)
			}
			assert.InDelta(t, 18, value(t, f, "dpservice_rules", "domain", "transfer", "group", "2", "port", "nic"), 0)
			assert.InDelta(t, 19, value(t, f, "dpservice_interfaces"), 0)
			assert.InDelta(t, 20, value(t, f, "dpservice_routes"), 0)
			assert.InDelta(t, 1, value(t, f, "dpservice_capture_sessions"), 0)
			assert.InDelta(t, 1, value(t, f, "dpservice_capture_interfaces", "session", "default"), 0)
			copied := []string{"direction", "rx", "interface", "vm-1", "port", "vf", "session", "default"}
			assert.InDelta(t, 21, value(t, f, "dpservice_capture_copied_packets_total", copied...), 0)
			assert.InDelta(t, 22, value(t, f, "dpservice_capture_copied_bytes_total", copied...), 0)
			rule := []string{"action", "pass", "direction", "rx", "interface", "vm-1", "pattern", "eth / end", "port", "vf",
				"rule", "1", "session", "default"}
			assert.InDelta(t, 23, value(t, f, "dpservice_capture_rule_packets_total", rule...), 0)
			assert.InDelta(t, 24, value(t, f, "dpservice_capture_rule_bytes_total", rule...), 0)
			rule[1], rule[11] = "sample", "2"
			assert.InDelta(t, 25, value(t, f, "dpservice_capture_rule_packets_total", rule...), 0)
			assert.Positive(t, value(t, f, "process_resident_memory_bytes"))
			assert.Positive(t, value(t, f, "go_goroutines"))
			assert.Equal(t, dto.MetricType_COUNTER, f["dpservice_graph_node_packets_total"].GetType())
			assert.Equal(t, dto.MetricType_GAUGE, f["dpservice_flows"].GetType())
		})
	}
}

// What cannot be read is left out; the rest is there.
func TestScrapeWithoutPorts(t *testing.T) {
	s := sources()
	s.Ports = func() ([]port.Stats, error) { return nil, errors.New("broken") }
	f := parse(t, start(t, "tcp", "127.0.0.1:0", s)("/metrics"))
	assert.NotContains(t, f, "dpservice_port_up")
	assert.InDelta(t, 19, value(t, f, "dpservice_interfaces"), 0)
}

// TestASourceThatPanics costs the scrape what comes behind it, and is counted.
func TestASourceThatPanics(t *testing.T) {
	s := sources()
	s.Nodes = func() []status.Node { panic("no nodes") }
	get := start(t, "tcp", "127.0.0.1:0", s)
	assert.NotContains(t, string(get("/metrics").text), "dpservice_graph_node")
	p := get("/metrics")
	assert.Equal(t, http.StatusOK, p.code)
	assert.Contains(t, string(p.text), `dpservice_panics_total{part="metrics"} 2`)
	assert.Contains(t, string(p.text), "dpservice_port_up")
}

func TestOtherPages(t *testing.T) {
	get := start(t, "tcp", "127.0.0.1:0", sources())
	assert.Equal(t, http.StatusNotFound, get("/").code)
	assert.Equal(t, http.StatusNotFound, get("/debug/pprof").code)
}
