// SPDX-License-Identifier: Apache-2.0

// Package metrics shows the daemon's counters to Prometheus.
package metrics

import (
	"log/slog"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

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

// Sources are where the values come from, at each scrape. All must be set, and be safe for concurrent use.
type Sources struct {
	Version     string                       // of dpservice
	DPDKVersion string                       //
	Ports       func() ([]port.Stats, error) // every port's counters
	Uplinks     func() []uplink.Uplink       //
	Nodes       func() []status.Node         // the packet graph's
	Drops       func() []status.Drops        // what the packet graph has dropped
	Flows       func() map[FlowClass]int     // numbers of flows
	Shares      func() []status.FlowShare    // the interfaces' of the flows and rules
	Offload     func() flow.Stats            // zero without offload
	Rules       func() map[ruleset.Group]int // numbers of rules
	PortName    func(id uint16) string       // of a port that has rules
	Interfaces  func() int                   // the guests'
	Routes      func() int                   //
	Captures    func() []spec.Session        // those that are not over
	AuditLost   func() uint64                // records of the audit log that could not be written
}

// FlowClass is a class of flows that are counted together.
type FlowClass struct {
	State     graph.FlowState
	Offloaded bool
}

// metric describes a metric, and says whether it is a counter or a gauge.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("dpservice_"+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("dpservice_"+name, help, labels, nil), prometheus.GaugeValue}
}

var (
	info = gauge("info", "Always 1; the labels say what runs.", "version", "dpdk_version")

	portUp        = gauge("port_up", "Whether the port's link is up.", "port", "role")
	portRemoved   = gauge("port_removed", "Whether the port was removed, or has reported a fatal error.", "port", "role")
	portReceived  = counter("port_receive_packets_total", "Packets that the port gave to the software.", "port", "role")
	portReceivedB = counter("port_receive_bytes_total", "Bytes that the port gave to the software.", "port", "role")
	portRxErrors  = counter("port_receive_errors_total", "Packets that arrived damaged.", "port", "role")
	portRxMissed  = counter("port_receive_missed_total", "Packets dropped by the NIC: no room in the RX queue.", "port",
		"role")
	portRxNoBuffer = counter("port_receive_no_buffer_total", "Packets dropped since there was no packet buffer.", "port",
		"role")
	portTransmitted = counter("port_transmit_packets_total", "Packets that the software sent by the port.", "port", "role")
	portTransmitB   = counter("port_transmit_bytes_total", "Bytes that the software sent by the port.", "port", "role")
	portTxErrors    = counter("port_transmit_errors_total", "Packets that the port did not send.", "port", "role")
	portXstat       = metric{prometheus.NewDesc("dpservice_port_xstat", "The driver's own counters, by its own names.",
		[]string{"port", "role", "name"}, nil), prometheus.UntypedValue}

	uplinkUsable      = gauge("uplink_usable", "Whether packets to other hypervisors leave by the uplink.", "port", "role")
	uplinkRouterKnown = gauge("uplink_router_known", "Whether the MAC of the uplink's router is known.", "port", "role",
		"from")

	nodeCalls   = counter("graph_node_calls_total", "Calls of the graph's node.", "node")
	nodePackets = counter("graph_node_packets_total", "Packets in the graph's node. A drop_ node names the reason.",
		"node")
	nodeCycles = counter("graph_node_cycles_total", "TSC cycles spent in the graph's node.", "node")
	dropped    = counter("dropped_packets_total", "Packets from and for the interface, or of none at the uplink, that the software dropped.",
		"interface", "port", "reason")

	flows          = gauge("flows", "Flows that the software path knows.", "state", "offloaded")
	offloadCreated = counter("offload_rules_created_total", "Rules of flows that were put into the NIC.")
	offloadAged    = counter("offload_rules_aged_total", "Rules of flows that left the NIC since no packet came.")
	offloadRefused = counter("offload_refused_total", "Times a flow stayed in software because the NIC refused its rule.")
	offloadLimited = counter("offload_limited_total",
		"Times a flow stayed in software because there was no room for its rule.")
	offloadEvicted = counter("offload_evicted_total", "Rules that made room for those of another share.")
	offloadBacklog = gauge("offload_backlog", "Flows that wait until their rule is made or removed.")
	shareFlows     = gauge("interface_flows", "Flows of the interface that the software path knows.", "interface",
		"origin")
	shareEvicted = counter("interface_flows_evicted_total", "Flows of the interface that lost borrowed room.",
		"interface", "origin")
	shareOverflow = counter("interface_flow_overflow_total", "Packets for whose flow there was no room in the table.",
		"interface", "origin")
	shareRules      = gauge("interface_rules", "Flows of the interface with a rule in the NIC.", "interface", "origin")
	shareRulesEvict = counter("interface_rules_evicted_total", "Rules of the interface's flows that lost borrowed room.",
		"interface", "origin")
	shareLimited = counter("interface_limited_total",
		"Times a flow stayed in software because there was no room for its rule.", "interface", "origin")
	rules          = gauge("rules", "Rules that are installed in the NIC.", "port", "domain", "group")
	auditLost      = counter("audit_lost_total", "Records of the audit log that could not be written.")
	panics         = counter("panics_total", "Panics in a part of dpservice that the daemon has survived.", "part")
	interfaces     = gauge("interfaces", "The guests' interfaces.")
	routes         = gauge("routes", "Routes.")
	captures       = gauge("capture_sessions", "Captures that are on.")
	captureInterfs = gauge("capture_interfaces", "Interfaces that a capture copies.", "session")
	captureCopied  = counter("capture_copied_packets_total", "Packets that were copied.", "session", "interface",
		"direction", "port")
	captureCopiedBy = counter("capture_copied_bytes_total", "Bytes of the packets that were copied.", "session",
		"interface", "direction", "port")
	captureRule   = counter("capture_rule_packets_total", "Packets that a rule of a filter has matched.", ruleLabels...)
	captureRuleBy = counter("capture_rule_bytes_total", "Bytes of the packets that a rule of a filter has matched.",
		ruleLabels...)
)

// Collector reads the sources at each scrape. It is an unchecked prometheus.Collector.
type Collector struct {
	sources Sources
	fence   *fence.Fence
	log     *slog.Logger
}

// NewCollector returns a Collector of the sources and of the fence's panics. A source that panics ends the scrape.
func NewCollector(s Sources, f *fence.Fence, log *slog.Logger) *Collector {
	return &Collector{s, f, log}
}

// Describe implements prometheus.Collector: it says nothing, as labels come and go with what they name.
func (*Collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. It runs in a goroutine of the registry's.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	out := sink{ch}
	_ = c.fence.Do("metrics", func() { c.collect(out) }) // it counts and logs a panic
	for part, n := range c.fence.Panics() {
		out.send(panics, float64(n), part)
	}
}

func (c *Collector) collect(out sink) {
	out.send(info, 1, c.sources.Version, c.sources.DPDKVersion)
	out.send(auditLost, float64(c.sources.AuditLost()))
	c.collectPorts(out)
	for _, u := range c.sources.Uplinks() {
		role := string(port.PF) + strconv.Itoa(u.Number)
		out.send(uplinkUsable, number(u.Usable()), u.Name, role)
		out.send(uplinkRouterKnown, number(u.RouterMAC != wire.MAC{}), u.Name, role, string(u.Source))
	}
	for _, n := range c.sources.Nodes() {
		out.send(nodeCalls, float64(n.Calls), n.Name)
		out.send(nodePackets, float64(n.Packets), n.Name)
		out.send(nodeCycles, float64(n.Cycles), n.Name)
	}
	for _, d := range c.sources.Drops() {
		out.send(dropped, float64(d.Packets), d.Interface, d.Port, d.Reason)
	}
	c.collectFlows(out)
	out.send(interfaces, float64(c.sources.Interfaces()))
	out.send(routes, float64(c.sources.Routes()))
	c.collectCaptures(out)
}

// collectPorts leaves out the ports if they cannot be read: the other metrics are still useful.
func (c *Collector) collectPorts(out sink) {
	all, err := c.sources.Ports()
	if err != nil {
		c.log.Warn("no metrics of the ports", "err", err)
		return
	}
	for _, s := range all {
		labels := []string{s.Port.Name, string(s.Port.Role) + strconv.Itoa(s.Port.Index)}
		out.send(portUp, number(s.Port.LinkUp), labels...)
		out.send(portRemoved, number(s.Port.Removed), labels...)
		for _, v := range []struct {
			metric metric
			value  uint64
		}{
			{portReceived, s.RxPackets}, {portReceivedB, s.RxBytes}, {portRxErrors, s.RxErrors}, {portRxMissed, s.RxMissed},
			{portRxNoBuffer, s.RxNoMbuf}, {portTransmitted, s.TxPackets}, {portTransmitB, s.TxBytes}, {portTxErrors, s.TxErrors},
		} {
			out.send(v.metric, float64(v.value), labels...)
		}
		for _, x := range s.Xstats {
			out.send(portXstat, float64(x.Value), append(labels, x.Name)...)
		}
	}
}

func (c *Collector) collectFlows(out sink) {
	for class, n := range c.sources.Flows() {
		out.send(flows, float64(n), class.State.String(), strconv.FormatBool(class.Offloaded))
	}
	offload := c.sources.Offload()
	out.send(offloadCreated, float64(offload.Created))
	out.send(offloadAged, float64(offload.Aged))
	out.send(offloadRefused, float64(offload.Refused))
	out.send(offloadLimited, float64(offload.Limited))
	out.send(offloadEvicted, float64(offload.Evicted))
	out.send(offloadBacklog, float64(offload.Backlog))
	for _, s := range c.sources.Shares() {
		out.send(shareFlows, float64(s.Flows), s.Interface, s.Origin)
		out.send(shareEvicted, float64(s.FlowsEvicted), s.Interface, s.Origin)
		out.send(shareOverflow, float64(s.Overflow), s.Interface, s.Origin)
		out.send(shareRules, float64(s.Rules), s.Interface, s.Origin)
		out.send(shareRulesEvict, float64(s.RulesEvicted), s.Interface, s.Origin)
		out.send(shareLimited, float64(s.Limited), s.Interface, s.Origin)
	}
	for g, n := range c.sources.Rules() {
		out.send(rules, float64(n), c.sources.PortName(g.Port), g.Domain, strconv.FormatUint(uint64(g.Number), 10))
	}
}

// ruleLabels identify a rule of a filter: each has a number, and either samples packets or lets them pass.
var ruleLabels = []string{"session", "interface", "direction", "port", "rule", "action", "pattern"}

func (c *Collector) collectCaptures(out sink) {
	sessions := c.sources.Captures()
	out.send(captures, float64(len(sessions)))
	for _, s := range sessions {
		out.send(captureInterfs, float64(len(s.Interfaces)), s.Name)
		for _, i := range s.Interfaces {
			out.send(captureCopied, float64(i.Packets), s.Name, i.String(), string(i.Direction), i.Port)
			out.send(captureCopiedBy, float64(i.Bytes), s.Name, i.String(), string(i.Direction), i.Port)
			for n, r := range i.Rules {
				action := "pass"
				if r.Sample {
					action = "sample"
				}
				labels := []string{s.Name, i.String(), string(i.Direction), i.Port, strconv.Itoa(n + 1), action, r.Pattern}
				out.send(captureRule, float64(r.Packets), labels...)
				out.send(captureRuleBy, float64(r.Bytes), labels...)
			}
		}
	}
}

// number returns a boolean as Prometheus represents it.
func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// sink takes the values of a scrape.
type sink struct{ ch chan<- prometheus.Metric }

func (s sink) send(m metric, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...) // panics if labels are not as many as above
}
