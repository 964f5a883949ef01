// SPDX-License-Identifier: Apache-2.0

// Package status describes the running daemon in plain values, for those who show it: the API and the metrics. It links
// no DPDK.
package status

import (
	"net/netip"
	"time"

	"dpservice/dpservice/uplink"
)

// System describes the daemon as a whole.
type System struct {
	Version     string // of dpservice
	DPDKVersion string
	GoVersion   string
	PID         int
	Uptime      time.Duration
	Offload     bool // whether flows get rules in the NIC
	MainLcore   int
	Workers     []int  // lcores that run the packet graph
	Driver      string // of the NIC
	PortNaming  string // how rules name ports: represented_port or port_id; empty without offload
	UnderlayIP  netip.Addr
	Uplinks     []uplink.Uplink
	Flows       FlowTable
}

// FlowTable says how full the flow table and the NIC are.
type FlowTable struct {
	Known    int    // flows in the table
	Capacity int    // of the table
	Overflow uint64 // packets that found it full: forwarded, but neither counted by flow nor offloaded
	Rules    int    // flows with a rule in the NIC
	MaxRules int    // as configured
	Created  uint64 // rules ever installed
	Aged     uint64 // rules removed because no packet came for their timeout
	Refused  uint64 // times a flow stayed in software because the NIC refused its rule
	Limited  uint64 // times a flow stayed in software because there was no room for its rule
	Evicted  uint64 // rules removed to make room for those of another share
	Backlog  int    // flows that wait until their rule is installed or removed

	Guaranteed      int // flows of each share that always have room in the table
	GuaranteedRules int // and in the NIC
	Shares          []FlowShare
}

// FlowShare is what an interface holds of the flow table and of the NIC's rules, for one origin of flows.
type FlowShare struct {
	Interface    string // id
	Origin       string // guest or wire
	Flows        int
	FlowsEvicted uint64 // flows that lost room borrowed from other shares
	Overflow     uint64 // packets for whose flow there was no room
	Rules        int
	RulesEvicted uint64 // rules that lost room borrowed from other shares
	Limited      uint64 // times a flow stayed in software because there was no room for its rule
}

// Flow is one flow as the packet graph knows it.
type Flow struct {
	ID        uint64
	Interface string // id of the guest's interface that sends or receives it
	FromGuest bool   // else it comes from the wire
	VNI       uint32
	Src, Dst  netip.Addr
	Proto     uint8  // IP protocol
	SrcPort   uint16 // TCP and UDP only
	DstPort   uint16
	ICMPType  uint8  // ICMP and ICMPv6 only
	InPort    string // ethdev name
	OutPort   string // ethdev name
	Action    string // deliver or encap
	State     string // new, established or closing
	Offloaded bool
	Packets   uint64 // forwarded by software and by the NIC
	Bytes     uint64
	Idle      time.Duration // since its last packet
}

// ExplainRequest says which packet is explained: the next one of the flow with an ID, or one that an interface sends or
// gets from the wire.
type ExplainRequest struct {
	ID uint64 // not 0: nothing else counts

	Interface string // id
	FromWire  bool
	Peer      netip.Addr // FromWire: the outer source; invalid: any that may send it
	Src, Dst  netip.Addr // invalid: the interface's own, of the other's family
	Proto     uint8
	SrcPort   uint16 // ICMP and ICMPv6: type<<8|code
	DstPort   uint16
}

// Explanation says what would be done with a packet now, and why.
type Explanation struct {
	Verdict  string
	Dropped  bool
	Flow     *Flow // the packet's flow; nil if it would be the first one
	Steps    []ExplainStep
	Rule     *Rule // by which the NIC forwards the flow; nil if it does not
	Captures []ExplainCapture
}

// ExplainStep is what one part of the product says of the packet.
type ExplainStep struct{ Subject, Text string }

// ExplainCapture is a rule of a capture's filter that the packet meets, or may meet: Depends says on what.
type ExplainCapture struct {
	Session   string
	Interface string
	Direction string // rx, tx or drops
	Rule      string // what it matches, in testpmd's syntax
	Copied    bool   // or left out
	Depends   string // on what it depends that the packet meets the rule; empty: on nothing
	Packets   uint64 // that have met it
	Bytes     uint64
}

// Rule is one rule in the NIC.
type Rule struct {
	Name     string // says what it is for, for example base/eth
	Port     string // ethdev name
	PortID   uint16
	Domain   string // transfer, ingress or egress
	Group    uint32
	Priority uint32
	Pattern  string  // in testpmd's flow syntax
	Actions  string  // in testpmd's flow syntax
	Hits     *uint64 // packets; nil for a rule that does not count
	Bytes    *uint64
}

// Node holds the counters of one node of the packet graph, summed over the workers.
type Node struct {
	Name    string
	Calls   uint64
	Packets uint64
	Cycles  uint64 // of the TSC
}

// Drops counts the packets of a port that the packet graph dropped for a reason: of a VF those from and for its guest,
// of an uplink those of no interface. It goes on when another interface is created on the port.
type Drops struct {
	Interface string // id of the one on the port now; empty if there is none
	Port      string // ethdev name
	Reason    string
	Packets   uint64
}

// Report is what a report of a fault has besides what others ask for, too.
type Report struct {
	Configuration string // that the daemon was started with, as YAML
	Check         []Finding
	Log           []string // its last lines
}

// Finding is what one check of the machine has found.
type Finding struct{ Level, Subject, Text, Fix string }

// TraceRequest says which packets are followed through the packet graph.
type TraceRequest struct {
	Interface string // id: what its guest sends, and what comes for it from the wire
	Filter    string // pcap-filter(7); empty: everything
	Drops     bool   // only packets that are dropped, or answered with an ICMP error
	Count     uint64 // end after so many packets; 0: no limit
	Client    string // who traces, as others that want to are shown
}

// Trace is what is read of a trace at once.
type Trace struct {
	Packets []TracedPacket
	Missed  uint64 // packets since the start that matched, but were too many
	Ended   bool   // no more will come: Count is reached
}

// TracedPacket is what became of a packet.
type TracedPacket struct {
	Time    time.Time // when it came in
	Port    string    // ethdev name: where it came in
	Origin  string    // guest or wire
	Length  int       // of the frame as it came in
	Frame   []byte    // its first 256 bytes
	Nodes   []TraceNode
	Flow    *Flow // by whose verdict it was forwarded; nil if there is none
	Dropped bool  // or answered with an ICMP error
	Verdict string
}

// TraceNode is a node of the packet graph that a packet has visited.
type TraceNode struct {
	Name   string
	Begin  uint32 // cycles of the TSC since the packet was received
	Cycles uint32 // that the node spent on the burst
	Burst  int    // packets in the burst
}
