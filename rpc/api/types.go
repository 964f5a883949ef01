// SPDX-License-Identifier: Apache-2.0

package api

import "time"

// SystemInfoResult is the result of system.info.
type SystemInfoResult struct {
	APIVersion    string    `json:"api_version"` // filled in by the server
	Version       string    `json:"version"`     // of dpservice
	DPDKVersion   string    `json:"dpdk_version"`
	GoVersion     string    `json:"go_version"`
	PID           int       `json:"pid"`
	UptimeSeconds float64   `json:"uptime_seconds"`
	Offload       bool      `json:"offload"`
	Lcores        Lcores    `json:"lcores"`
	NIC           NIC       `json:"nic"`
	Underlay      Underlay  `json:"underlay"`
	Flows         FlowTable `json:"flows"`
}

// SystemAccessResult is the result of system.access: what the caller may do.
type SystemAccessResult struct {
	UID        uint32        `json:"uid"`
	User       string        `json:"user,omitempty"` // the name of UID
	GIDs       []uint32      `json:"gids"`           // all groups of the caller's process
	Configured bool          `json:"configured"`     // whether the configuration has rules
	Grants     []AccessGrant `json:"grants"`
	Methods    []string      `json:"methods"` // those that the caller may call
}

// AccessGrant is something that the caller may do.
type AccessGrant struct {
	From     string        `json:"from"`               // the rule, such as access[0], or who may do it without rules
	Allow    []string      `json:"allow"`              // read, interfaces, routes, captures
	Captures *AccessLimits `json:"captures,omitempty"` // what bounds captures; absent if nothing does
}

// AccessLimits bound captures. What is absent is not limited.
type AccessLimits struct {
	Sinks               []string `json:"sinks,omitempty"`      // prefixes
	Interfaces          []string `json:"interfaces,omitempty"` // patterns of ids
	VNIs                []uint32 `json:"vnis,omitempty"`
	MaxDuration         string   `json:"max_duration,omitempty"`
	MaxPacketsPerSecond uint64   `json:"max_packets_per_second,omitempty"`
}

// SystemReportResult is the result of system.report: what a report of a fault has besides the answers of other methods.
type SystemReportResult struct {
	Configuration string    `json:"configuration"` // that the daemon was started with, as YAML; it has no secrets
	Check         []Finding `json:"check"`         // dpservice check, while the daemon holds what it needs
	Log           []string  `json:"log"`           // the last lines
}

// Finding is what one check of the machine has found.
type Finding struct {
	Level   string `json:"level"` // ok, note, warning or failed
	Subject string `json:"subject"`
	Text    string `json:"text"`
	Fix     string `json:"fix,omitempty"` // what to do
}

// FlowTable says how full the flow table is, and how the offload of flows fares.
type FlowTable struct {
	Known    int    `json:"known"`     // flows in the table
	Capacity int    `json:"capacity"`  // of the table
	Overflow uint64 `json:"overflow"`  // packets that found it full: forwarded, but neither counted by flow nor offloaded
	Rules    int    `json:"rules"`     // flows with a rule in the NIC
	MaxRules int    `json:"max_rules"` // as configured
	Created  uint64 `json:"created"`   // rules, ever
	Aged     uint64 `json:"aged"`      // rules that saw no packet for their timeout
	Refused  uint64 `json:"refused"`   // times a flow stayed in software because the NIC refused its rule
	Limited  uint64 `json:"limited"`   // times a flow stayed in software because there was no room for its rule
	Evicted  uint64 `json:"evicted"`   // rules removed to make room for those of another share
	Backlog  int    `json:"backlog"`   // flows that wait until their rule is made or removed

	Guaranteed      int         `json:"guaranteed"`       // flows of each share that always have room in the table
	GuaranteedRules int         `json:"guaranteed_rules"` // and in the NIC
	Shares          []FlowShare `json:"shares"`
}

// FlowShare is what an interface holds of the flow table and of the NIC's rules: the flows of flow.list with this
// interface and origin. What others do not use it may borrow beyond its guarantee, until they do.
type FlowShare struct {
	Interface    string `json:"interface"`
	Origin       string `json:"origin"` // guest or wire
	Flows        int    `json:"flows"`
	FlowsEvicted uint64 `json:"flows_evicted"` // that lost borrowed room
	Overflow     uint64 `json:"overflow"`      // packets for whose flow there was no room
	Rules        int    `json:"rules"`
	RulesEvicted uint64 `json:"rules_evicted"` // that lost borrowed room
	Limited      uint64 `json:"limited"`       // times a flow stayed in software because there was no room for its rule
}

// Lcores says which lcores do what.
type Lcores struct {
	Main    int   `json:"main"`
	Workers []int `json:"workers"`
}

// NIC describes the card.
type NIC struct {
	Driver     string `json:"driver"`
	PortNaming string `json:"port_naming"` // represented_port or port_id: how rules name ports
}

// Underlay describes the node in the network between the hypervisors.
type Underlay struct {
	IP        string   `json:"ip"`
	RouterMAC string   `json:"router_mac,omitempty"` // behind PF0; empty while it is not known
	Uplinks   []Uplink `json:"uplinks"`
}

// Uplink describes a physical port to the other hypervisors.
type Uplink struct {
	PF         int    `json:"pf"`
	Port       string `json:"port"`
	Link       string `json:"link"`                 // up or down
	RouterMAC  string `json:"router_mac,omitempty"` // empty while it is not known
	RouterFrom string `json:"router_from"`          // configuration, kernel or neighbour_discovery
	Usable     bool   `json:"usable"`               // whether packets leave by it: the link is up and the router is known
}

// Port is one port of port.list.
type Port struct {
	ID           uint16  `json:"id"`
	Name         string  `json:"name"`
	Role         string  `json:"role"` // pf or vf
	Index        int     `json:"index"`
	SwitchDomain *uint16 `json:"switch_domain"` // null for a port that is not in switchdev mode
	MAC          string  `json:"mac"`
	MTU          uint16  `json:"mtu"`
	Link         string  `json:"link"` // up, down, or removed: the port was removed, or has reported a fatal error
	Started      bool    `json:"started"`
}

// LinkState is the word for a link's state.
func LinkState(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// PortListResult is the result of port.list.
type PortListResult struct {
	Ports []Port `json:"ports"`
}

// PortStatsParams are the parameters of port.stats.
type PortStatsParams struct {
	Port string `json:"port,omitempty"` // ethdev name; all ports if absent
}

// PortStats are the counters of one port: the ethdev's basic ones and all of its extended ones.
type PortStats struct {
	ID         uint16            `json:"id"`
	Name       string            `json:"name"`
	RxPackets  uint64            `json:"rx_packets"`
	RxBytes    uint64            `json:"rx_bytes"`
	RxErrors   uint64            `json:"rx_errors"`
	RxMissed   uint64            `json:"rx_missed"`
	RxNoBuffer uint64            `json:"rx_no_buffer"`
	TxPackets  uint64            `json:"tx_packets"`
	TxBytes    uint64            `json:"tx_bytes"`
	TxErrors   uint64            `json:"tx_errors"`
	Xstats     map[string]uint64 `json:"xstats"`
}

// PortStatsResult is the result of port.stats.
type PortStatsResult struct {
	Ports []PortStats `json:"ports"`
}

// InterfaceID are the parameters of interface.get and interface.delete.
type InterfaceID struct {
	ID string `json:"id" rpc:"required"`
}

// InterfaceCreateParams are the parameters of interface.create.
type InterfaceCreateParams struct {
	ID         string `json:"id" rpc:"required"`
	Device     string `json:"device" rpc:"required"` // ethdev name of the VF's representor
	VNI        uint32 `json:"vni" rpc:"required"`
	IPv4       string `json:"ipv4,omitempty"`
	IPv6       string `json:"ipv6,omitempty"`
	UnderlayIP string `json:"underlay_ip,omitempty"` // chosen from the node's prefix if empty
	MAC        string `json:"mac,omitempty"`         // the guest's, where it is known before the guest speaks
	Hostname   string `json:"hostname,omitempty"`    // that the guest gets by DHCP
	PXE        *PXE   `json:"pxe,omitempty"`         // what the guest boots from, by DHCP
}

// PXE is what a guest boots from over the network.
type PXE struct {
	Server   string `json:"server" rpc:"required"`   // TFTP server: an address or a host name
	Filename string `json:"filename" rpc:"required"` // on the server; or a whole URL
}

// Interface is a guest's attachment to a virtual network.
type Interface struct {
	ID         string `json:"id"`
	Device     string `json:"device"`
	VNI        uint32 `json:"vni"`
	IPv4       string `json:"ipv4,omitempty"`
	IPv6       string `json:"ipv6,omitempty"`
	UnderlayIP string `json:"underlay_ip"`
	Hostname   string `json:"hostname,omitempty"`
	PXE        *PXE   `json:"pxe,omitempty"`
}

// InterfaceListResult is the result of interface.list.
type InterfaceListResult struct {
	Interfaces []Interface `json:"interfaces"`
}

// Route sends a prefix of a virtual network to a next hop. It is both the parameters and the result
// of route.add.
type Route struct {
	VNI        uint32 `json:"vni" rpc:"required"`
	Prefix     string `json:"prefix" rpc:"required"`
	NextHopVNI uint32 `json:"next_hop_vni" rpc:"required"`
	NextHopIP  string `json:"next_hop_ip" rpc:"required"` // underlay address of the interface behind it
}

// RouteListParams are the parameters of route.list.
type RouteListParams struct {
	VNI *uint32 `json:"vni,omitempty"` // all virtual networks if absent
}

// RouteListResult is the result of route.list.
type RouteListResult struct {
	Routes []Route `json:"routes"`
}

// RouteDeleteParams are the parameters of route.delete. The next hop need not be named; if it is, it must be the
// route's.
type RouteDeleteParams struct {
	VNI        uint32 `json:"vni" rpc:"required"`
	Prefix     string `json:"prefix" rpc:"required"`
	NextHopVNI uint32 `json:"next_hop_vni,omitempty"`
	NextHopIP  string `json:"next_hop_ip,omitempty"`
}

// FlowFilter selects flows. A flow is listed if it fits every field that is set.
type FlowFilter struct {
	Interface string  `json:"interface,omitempty"` // interface id: flows from and to it
	VNI       *uint32 `json:"vni,omitempty"`
	Src       string  `json:"src,omitempty"`   // address
	Dst       string  `json:"dst,omitempty"`   // address
	Proto     string  `json:"proto,omitempty"` // tcp, udp, icmp, icmp6 or a number
	SrcPort   *uint16 `json:"src_port,omitempty"`
	DstPort   *uint16 `json:"dst_port,omitempty"`
	Offloaded *bool   `json:"offloaded,omitempty"`
	Address   string  `json:"address,omitempty"` // either source or destination
	State     string  `json:"state,omitempty"`   // new, established or closing
}

// FlowListParams are the parameters of flow.list.
type FlowListParams struct {
	Filter FlowFilter `json:"filter,omitzero"`
	Limit  *int       `json:"limit,omitempty"`  // flows per answer: 1 to MaxFlows, DefaultFlows if absent
	Cursor string     `json:"cursor,omitempty"` // next_cursor of the answer before
}

// The bounds of flow.list's limit.
const (
	DefaultFlows = 100
	MaxFlows     = 1000
)

// Flow is one flow of flow.list.
type Flow struct {
	ID          uint64  `json:"id"`
	Interface   string  `json:"interface"` // the guest's interface that it leaves or enters by
	Origin      string  `json:"origin"`    // guest or wire
	VNI         uint32  `json:"vni"`
	Src         string  `json:"src"`
	Dst         string  `json:"dst"`
	Proto       string  `json:"proto"` // tcp, udp, icmp, icmp6 or a number
	SrcPort     uint16  `json:"src_port,omitempty"`
	DstPort     uint16  `json:"dst_port,omitempty"`
	ICMPType    *uint8  `json:"icmp_type,omitempty"`
	InPort      string  `json:"in_port"`            // ethdev name
	OutPort     string  `json:"out_port,omitempty"` // ethdev name
	Action      string  `json:"action"`             // deliver or encap
	State       string  `json:"state"`
	Offloaded   bool    `json:"offloaded"`
	Packets     uint64  `json:"packets"`
	Bytes       uint64  `json:"bytes"`
	IdleSeconds float64 `json:"idle_seconds"` // since its last packet
}

// FlowListResult is the result of flow.list.
type FlowListResult struct {
	Flows      []Flow `json:"flows"`
	NextCursor string `json:"next_cursor,omitempty"` // empty after the last flow
}

// FlowExplainParams are the parameters of flow.explain: a flow, by its id alone, or a packet that an interface's guest
// sends or that comes for it from the wire. An address that is left out is the interface's own.
type FlowExplainParams struct {
	ID        *uint64 `json:"id,omitempty"`
	Interface string  `json:"interface,omitempty"` // id
	Origin    string  `json:"origin,omitempty"`    // guest, which is the default, or wire
	Peer      string  `json:"peer,omitempty"`      // origin wire: the outer source; default: any that may send it
	Src       string  `json:"src,omitempty"`
	Dst       string  `json:"dst,omitempty"`
	Proto     string  `json:"proto,omitempty"` // tcp, udp, icmp, icmp6 or a number
	SrcPort   uint16  `json:"src_port,omitempty"`
	DstPort   uint16  `json:"dst_port,omitempty"`
	ICMPType  *uint8  `json:"icmp_type,omitempty"` // default: an echo request
}

// FlowExplainResult is the result of flow.explain: what would be done with the packet now, and why. Nothing changes by
// asking. The texts are for people.
type FlowExplainResult struct {
	Verdict  string           `json:"verdict"`
	Dropped  bool             `json:"dropped"`        // or answered with an ICMP error
	Flow     *Flow            `json:"flow,omitempty"` // the packet's, if it is known
	Steps    []ExplainStep    `json:"steps"`
	Rule     *Rule            `json:"rule,omitempty"` // by which the NIC forwards the flow by itself
	Captures []ExplainCapture `json:"captures"`
}

// ExplainStep is what one part says of the packet: its interface, source, route, uplink, flow, and the NIC.
type ExplainStep struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// ExplainCapture is a rule of a capture's filter that the packet meets.
type ExplainCapture struct {
	Session   string `json:"session"`
	Interface string `json:"interface"`
	Direction string `json:"direction"`         // rx, tx or drops
	Rule      string `json:"rule"`              // what it matches, in testpmd's syntax
	Copied    bool   `json:"copied"`            // or left out
	Depends   string `json:"depends,omitempty"` // on what else it depends that this rule, and no later one, is met
	Packets   uint64 `json:"packets"`           // that have met the rule so far
	Bytes     uint64 `json:"bytes"`
}

// TraceStartParams are the parameters of trace.start. A trace follows packets through the packet graph: what a guest
// sends, and what comes for it from the wire. What the NIC forwards by itself is not seen. There is one trace at a
// time. It belongs to the connection on which it was started, and ends with it.
type TraceStartParams struct {
	Interface string `json:"interface" rpc:"required"` // id
	Filter    string `json:"filter,omitempty"`         // in pcap-filter's language, of what the tunnel carries
	Drops     bool   `json:"drops,omitempty"`          // only packets that are dropped, or answered with an ICMP error
	Count     uint64 `json:"count,omitempty"`          // end after so many packets
	Client    string `json:"client,omitempty"`         // who traces, as others that want to are shown
}

// TraceStartResult is the result of trace.start.
type TraceStartResult struct {
	Warnings []string `json:"warnings"`
}

// TraceReadResult is the result of trace.read, which waits up to a second for packets.
type TraceReadResult struct {
	Packets []TracedPacket `json:"packets"` // at most 64, in order for each worker
	Missed  uint64         `json:"missed"`  // packets since the start that matched, but were too many
	Ended   bool           `json:"ended"`   // no more will come: count is reached
}

// TracedPacket is what became of a packet.
type TracedPacket struct {
	Time    time.Time   `json:"time"`           // when it came in
	Port    string      `json:"port"`           // ethdev name: where it came in
	Origin  string      `json:"origin"`         // guest or wire
	Length  int         `json:"length"`         // of the frame as it came in
	Frame   []byte      `json:"frame"`          // its first 256 bytes, in base64
	Nodes   []TraceNode `json:"nodes"`          // that it has visited, at most 16
	Flow    *Flow       `json:"flow,omitempty"` // by whose verdict it was forwarded, as it was then
	Dropped bool        `json:"dropped"`        // or answered with an ICMP error
	Verdict string      `json:"verdict"`        // what was decided, and why, for people
}

// TraceNode is a node of the packet graph that a packet has visited. A node handles the packets of a burst one after
// the other.
type TraceNode struct {
	Name   string `json:"name"`
	Begin  uint32 `json:"begin"`  // cycles of the TSC since the packet was received
	Cycles uint32 `json:"cycles"` // that the node spent on the burst
	Burst  int    `json:"burst"`  // packets in the burst
}

// RuleListParams are the parameters of rule.list.
type RuleListParams struct {
	Port  string  `json:"port,omitempty"` // ethdev name; all ports if absent
	Group *uint32 `json:"group,omitempty"`
}

// Rule is one rule in the NIC.
type Rule struct {
	Name     string  `json:"name"` // what it is for, e.g. base/eth
	Port     string  `json:"port"` // ethdev name
	PortID   uint16  `json:"port_id"`
	Domain   string  `json:"domain"` // transfer, ingress or egress
	Group    uint32  `json:"group"`
	Priority uint32  `json:"priority"`
	Pattern  string  `json:"pattern"` // testpmd's flow syntax
	Actions  string  `json:"actions"` // testpmd's flow syntax
	Hits     *uint64 `json:"hits"`    // packets; null for a rule that does not count
	Bytes    *uint64 `json:"bytes"`
}

// RuleListResult is the result of rule.list.
type RuleListResult struct {
	Rules []Rule `json:"rules"`
}

// NodeStats are the counters of one node of the packet graph, summed over the workers.
type NodeStats struct {
	Name    string `json:"name"`
	Calls   uint64 `json:"calls"`
	Packets uint64 `json:"packets"`
	Cycles  uint64 `json:"cycles"`
}

// GraphStatsResult is the result of graph.stats.
type GraphStatsResult struct {
	Nodes []NodeStats  `json:"nodes"`
	Drops []GraphDrops `json:"drops"` // by port, then reason; without those that are 0
}

// GraphDrops are the packets of a port that were dropped by the packet graph, or answered by an ICMP error: of a VF
// what its guest sent and what the wire brought for it, of an uplink what it received for no interface.
type GraphDrops struct {
	Interface string `json:"interface,omitempty"` // id of the one that is on the port now
	Port      string `json:"port"`                // ethdev name
	Reason    string `json:"reason"`              // as in the name of the node drop_<reason>
	Packets   uint64 `json:"packets"`
}

// GraphDOTResult is the result of graph.dot.
type GraphDOTResult struct {
	DOT string `json:"dot"`
}

// CaptureTarget names one capture point: exactly one field is set.
type CaptureTarget struct {
	VF string `json:"vf,omitempty"` // interface id
	PF *int   `json:"pf,omitempty"` // number of the PF
}

// CaptureSelector selects what to capture: exactly one field is set.
type CaptureSelector struct {
	VF  string  `json:"vf,omitempty"`  // interface id
	PF  *int    `json:"pf,omitempty"`  // number of the PF
	VNI *uint32 `json:"vni,omitempty"` // the interfaces that this virtual network has on the node now
	All bool    `json:"all,omitempty"` // the interfaces that the node has now
}

// CaptureStartParams are the parameters of capture.start.
type CaptureStartParams struct {
	SinkNodeIP string            `json:"sink_node_ip" rpc:"required"`
	UDPSrcPort uint16            `json:"udp_src_port,omitempty"` // absent: 3000; a NIC overwrites it
	UDPDstPort uint16            `json:"udp_dst_port,omitempty"` // absent: 4789, if encap is vxlan; else required
	Interfaces []CaptureSelector `json:"interfaces" rpc:"required"`
	Name       string            `json:"name,omitempty"`
	Encap      string            `json:"encap,omitempty"`     // udp, the default, or vxlan
	Direction  string            `json:"direction,omitempty"` // rx (the default), tx, both or, with drops, none
	Drops      bool              `json:"drops,omitempty"`     // copy also what the software drops of their packets
	Filter     string            `json:"filter,omitempty"`    // in pcap-filter's language
	Limits     *CaptureLimits    `json:"limits,omitempty"`
	Hold       bool              `json:"hold,omitempty"` // end the capture when this connection ends, however it does
	DryRun     bool              `json:"dry_run,omitempty"`
}

// CaptureLimits end a capture by themselves. Absent ones are none.
type CaptureLimits struct {
	Duration string `json:"duration,omitempty"` // as in 30s or 1h30m
	Packets  uint64 `json:"packets,omitempty"`
	Bytes    uint64 `json:"bytes,omitempty"` // of the packets, without the copies' headers
	// Copies of all interfaces together. Faster ones end the capture: no NIC slows copies down.
	PacketsPerSecond uint64 `json:"packets_per_second,omitempty"`
}

// CaptureRule is a rule of a filter: the first that a packet matches counts.
type CaptureRule struct {
	Pattern string `json:"pattern"` // testpmd's flow syntax
	Action  string `json:"action"`  // sample or pass
	Packets uint64 `json:"packets"` // that matched
	Bytes   uint64 `json:"bytes"`
}

// CaptureInterface is one direction of an interface that a session captures.
type CaptureInterface struct {
	CaptureTarget
	Direction string        `json:"direction"` // rx: from behind the port; tx: towards it; drops: dropped of both
	Mode      string        `json:"mode"`      // hardware: the NIC copies; software: only the packet graph does
	Port      string        `json:"port"`      // ethdev name
	Label     uint32        `json:"label"`     // the copies' flow label, or VXLAN's VNI; of drops, without the reason
	Packets   uint64        `json:"packets"`
	Bytes     uint64        `json:"bytes"`
	Rules     []CaptureRule `json:"rules,omitempty"` // of the filter, if there is one
}

// CaptureSession is a capture, as capture.start and capture.status show it.
type CaptureSession struct {
	Name      string     `json:"name"`
	State     string     `json:"state"` // active, dry_run, broken, ended or waiting
	StartedAt *time.Time `json:"started_at,omitempty"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
	// EndReason is stopped, duration, packets, bytes, packets_per_second, interface_deleted or client_gone.
	EndReason  string             `json:"end_reason,omitempty"`
	SinkNodeIP string             `json:"sink_node_ip"`
	UDPSrcPort uint16             `json:"udp_src_port"`
	UDPDstPort uint16             `json:"udp_dst_port"`
	Encap      string             `json:"encap"`     // udp or vxlan
	Direction  string             `json:"direction"` // rx, tx, both or none
	Drops      bool               `json:"drops,omitempty"`
	Filter     string             `json:"filter,omitempty"`
	Limits     *CaptureLimits     `json:"limits,omitempty"`
	Held       bool               `json:"held,omitempty"` // it ends with the connection on which it was started
	Packets    uint64             `json:"packets"`        // copied, on deleted interfaces too
	Bytes      uint64             `json:"bytes"`
	Interfaces []CaptureInterface `json:"interfaces"`
	Warnings   []string           `json:"warnings"`
	Plan       []string           `json:"plan,omitempty"` // of a dry run: testpmd's commands
}

// CaptureStopParams are the parameters of capture.stop.
type CaptureStopParams struct {
	Name string `json:"name,omitempty"` // all sessions if absent
}

// CaptureStopResult is the result of capture.stop.
type CaptureStopResult struct {
	StoppedInterfaces int `json:"stopped_interfaces"`
}

// CaptureStatusResult is the result of capture.status.
type CaptureStatusResult struct {
	Active   bool             `json:"active"`
	Sessions []CaptureSession `json:"sessions"`
	Waiting  []CaptureSession `json:"waiting,omitempty"` // from before a restart, and not restored yet: a warning says why
	History  []CaptureSession `json:"history,omitempty"` // of those that have ended: the last ones, the youngest first
}

// Capability is something that a capture may need of a port.
type Capability struct {
	Name      string `json:"name"`
	Supported bool   `json:"supported"`
	Reason    string `json:"reason,omitempty"` // why not: in the driver's words if the driver refused it
}

// CapturePort is what can be captured on a port.
type CapturePort struct {
	Port   string       `json:"port"` // ethdev name
	Role   string       `json:"role"` // pf or vf
	Mode   string       `json:"mode"` // where the copies are made: hardware or software
	RX     Capability   `json:"rx"`   // what comes from behind the port
	TX     Capability   `json:"tx"`   // what goes there
	Encaps []Capability `json:"encaps"`
	Filter []Capability `json:"filter"` // what filters can match
}

// CaptureCapabilitiesResult is the result of capture.capabilities.
type CaptureCapabilitiesResult struct {
	Ports []CapturePort `json:"ports"`
}
