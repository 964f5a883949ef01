// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"net"

	"dpservice/capture/spec"
	"dpservice/cgo/eal"
	"dpservice/dpservice/flow"
	"dpservice/dpservice/metrics"
	"dpservice/dpservice/port"
	"dpservice/dpservice/slowpath"
	"dpservice/dpservice/status"
	"dpservice/dpservice/version"
	"dpservice/rpc/server"
)

// serveMetrics starts the metrics server if one is configured.
func (d *daemon) serveMetrics() error {
	at := d.cfg.Metrics
	if at.Address == "" {
		return nil
	}
	l, err := listenAt(at.Network, at.Address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	d.cleanups.add("end the metrics", func() error { cancel(); return <-ended })
	collector := metrics.NewCollector(d.metricSources(), d.fence, d.log)
	go func() { // net/http recovers panics of requests
		ended <- metrics.Serve(ctx, l, collector, d.log)
	}()
	return nil
}

func listenAt(network, address string) (net.Listener, error) {
	if network == "unix" {
		return server.Listen(address)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return l, nil
}

func (d *daemon) metricSources() metrics.Sources {
	return metrics.Sources{
		Version:     version.String(),
		DPDKVersion: eal.Version(),
		Ports:       func() ([]port.Stats, error) { return d.ports.Stats("") },
		Uplinks:     d.uplinks.List,
		Nodes:       d.nodeStats,
		Drops:       d.drops,
		Flows:       d.countFlows,
		Shares:      func() []status.FlowShare { return d.flowShares(d.graph.FlowTable()) },
		Offload:     d.offloadStats,
		Rules:       d.rules.Counts,
		PortName:    d.portName,
		Interfaces:  func() int { return len(d.vnet.Interfaces()) },
		Routes:      func() int { return len(d.vnet.Routes()) },
		Captures:    func() []spec.Session { sessions, _ := d.captures.Status(); return sessions },
		AuditLost:   d.audit.Lost,
	}
}

// nodeStats returns the graph's counters, with the outcomes of the slow path as nodes behind the punt node.
func (d *daemon) nodeStats() []status.Node {
	var nodes []status.Node
	for _, n := range d.graph.Stats() {
		nodes = append(nodes, status.Node(n))
	}
	for outcome, n := range d.slow.Counts() {
		nodes = append(nodes, status.Node{Name: "slow_path_" + slowpath.Outcome(outcome).String(), Packets: n})
	}
	return nodes
}

// drops names the ports of what the graph has dropped, and their interfaces.
func (d *daemon) drops() []status.Drops {
	all := []status.Drops{}
	for _, n := range d.graph.Drops() {
		a, _ := d.vnet.OnPort(n.Port)
		all = append(all, status.Drops{
			Interface: a.ID, Port: d.portName(n.Port), Reason: n.Reason.String(), Packets: n.Packets,
		})
	}
	return all
}

func (d *daemon) countFlows() map[metrics.FlowClass]int {
	counts := map[metrics.FlowClass]int{}
	for class, flows := range d.graph.CountFlows() {
		counts[metrics.FlowClass(class)] = flows
	}
	return counts
}

func (d *daemon) offloadStats() flow.Stats {
	if d.flows == nil {
		return flow.Stats{}
	}
	return d.flows.Stats()
}
