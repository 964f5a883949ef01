// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PacketCapture is a capture on all hypervisors of the cluster that have something to capture.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pcap,categories=dpservice
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="metadata.name has more than 63 characters"
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes.total`
// +kubebuilder:printcolumn:name="Active",type=integer,JSONPath=`.status.nodes.active`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.nodes.failed`
// +kubebuilder:printcolumn:name="Packets",type=integer,JSONPath=`.status.packets`
// +kubebuilder:printcolumn:name="VNI",type=integer,JSONPath=`.spec.targets.vni`
// +kubebuilder:printcolumn:name="Filter",type=string,JSONPath=`.spec.filter`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PacketCapture struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PacketCaptureSpec   `json:"spec"`
	Status PacketCaptureStatus `json:"status,omitempty"`
}

// PacketCaptureList is a list of PacketCaptures.
//
// +kubebuilder:object:root=true
type PacketCaptureList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PacketCapture `json:"items"`
}

// PacketCaptureSpec says what to capture, where and when, and where the copies go.
//
// +kubebuilder:validation:XValidation:rule="!has(self.endTime) || !has(self.duration)",message="endTime and duration exclude each other"
// +kubebuilder:validation:XValidation:rule="!has(self.startTime) || !has(self.endTime) || self.startTime < self.endTime",message="endTime is not after startTime"
// +kubebuilder:validation:XValidation:rule="!has(self.direction) || self.direction != 'tx' || !has(self.targets.pf0) || !self.targets.pf0",message="what leaves by pf0 cannot be captured: direction tx does not go with pf0"
// +kubebuilder:validation:XValidation:rule="!has(self.direction) || self.direction != 'none' || (has(self.drops) && self.drops)",message="nothing is captured: direction none goes with drops"
type PacketCaptureSpec struct {
	Targets Targets `json:"targets"`
	// Nodes narrows the capture to some nodes. Without it every node takes part that has a target.
	Nodes *NodeSelection `json:"nodes,omitempty"`
	// Direction says which packets of guests are captured: rx, what they send, tx, what they receive, both, or none, if
	// only drops are wanted.
	//
	// +kubebuilder:validation:Enum=rx;tx;both;none
	// +kubebuilder:default=rx
	Direction string `json:"direction,omitempty"`
	// Drops adds what the software drops, with the reason: of what guests send and of what comes for them, and with pf0
	// what came from the wire for none.
	Drops bool `json:"drops,omitempty"`
	// Filter selects packets, in the language of pcap-filter(7).
	//
	// +kubebuilder:validation:MaxLength=1024
	Filter string `json:"filter,omitempty"`
	// Limits end the capture on a node by themselves.
	Limits *Limits `json:"limits,omitempty"`
	// Encap is the encapsulation of the copies: udp or vxlan.
	//
	// +kubebuilder:validation:Enum=udp;vxlan
	// +kubebuilder:default=udp
	Encap string `json:"encap,omitempty"`
	// StartTime is when the capture begins; at once without it.
	StartTime *metav1.Time `json:"startTime,omitempty"`
	// EndTime is when the capture ends.
	EndTime *metav1.Time `json:"endTime,omitempty"`
	// Duration is how long after startTime, or else after its creation, the capture ends: at the same time on all nodes.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="duration is zero"
	Duration *metav1.Duration `json:"duration,omitempty"`
	Sink     Sink             `json:"sink"`
}

// Targets say what is captured on a node. What several of them select is captured once.
//
// +kubebuilder:validation:XValidation:rule="has(self.vni) || has(self.interfaces) || (has(self.all) && self.all) || (has(self.pf0) && self.pf0)",message="nothing is selected: set vni, interfaces, all or pf0"
// +kubebuilder:validation:XValidation:rule="!has(self.all) || !self.all || (!has(self.vni) && !has(self.interfaces))",message="all excludes vni and interfaces"
type Targets struct {
	// VNI selects the interfaces of a virtual network.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	VNI *int32 `json:"vni,omitempty"`
	// Interfaces selects interfaces by their ids.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9._-]{1,63}$`
	// +listType=set
	Interfaces []string `json:"interfaces,omitempty"`
	// All selects all interfaces.
	All bool `json:"all,omitempty"`
	// PF0 selects what arrives from the wire at the first physical port.
	PF0 bool `json:"pf0,omitempty"`
}

// NodeSelection selects nodes. A node is selected that fits every field that is set. Labels are those of nodes:
// dpservice's interfaces have none.
//
// +kubebuilder:validation:XValidation:rule="has(self.names) || has(self.matchLabels)",message="no node is selected: set names or matchLabels"
type NodeSelection struct {
	// Names are the nodes' names.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	Names []string `json:"names,omitempty"`
	// MatchLabels are labels that a node has.
	//
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

// Limits end the capture on a node. Absent ones are none. The agent adds up the sessions of the daemon every few
// seconds, so that a node with several can exceed a limit for as long.
type Limits struct {
	// Packets is how many packets a node copies.
	//
	// +kubebuilder:validation:Minimum=1
	Packets int64 `json:"packets,omitempty"`
	// Bytes is how many bytes of packets a node copies.
	//
	// +kubebuilder:validation:Minimum=1
	Bytes int64 `json:"bytes,omitempty"`
	// PacketsPerSecond is the rate that ends a session of the daemon: no NIC slows copies down.
	//
	// +kubebuilder:validation:Minimum=1
	PacketsPerSecond int64 `json:"packetsPerSecond,omitempty"`
}

// Sink says where the copies go: to an address, or to a collector of the cluster.
//
// +kubebuilder:validation:XValidation:rule="has(self.address) != has(self.collector)",message="want either address, the sink's own, or collector, the name of a pool"
// +kubebuilder:validation:XValidation:rule="has(self.port) == has(self.address)",message="port goes with address: a collector chooses its own"
type Sink struct {
	// Address is an IPv6 address that the underlay routes to.
	//
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 6 && ip(self).isGlobalUnicast()",message="want a unicast IPv6 address that a router forwards to"
	Address string `json:"address,omitempty"`
	// Port is the UDP port of the copies.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// Collector is a pool of collectors. Those of a pool share the nodes.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Collector string `json:"collector,omitempty"`
}

// PacketCaptureStatus sums up what the nodes report.
type PacketCaptureStatus struct {
	// ObservedGeneration is the generation of the spec that the rest is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// State is Pending, Active, Ended, Failed or Ending.
	State State      `json:"state,omitempty"`
	Nodes NodeCounts `json:"nodes,omitempty"`
	// Packets were copied on all nodes.
	Packets int64 `json:"packets"`
	// Bytes of these packets.
	Bytes int64 `json:"bytes"`
	// Problems are the first few errors of nodes.
	//
	// +listType=atomic
	Problems []Problem `json:"problems,omitempty"`
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// NodeCounts counts the nodes that have something to capture, by their states.
type NodeCounts struct {
	Total   int32 `json:"total"`
	Pending int32 `json:"pending"`
	Active  int32 `json:"active"`
	Ended   int32 `json:"ended"`
	Failed  int32 `json:"failed"`
}

// Problem is an error of a node.
type Problem struct {
	Node  string `json:"node"`
	Error string `json:"error"`
}

// The conditions of a PacketCapture.
const (
	ConditionActive   = "Active"   // at least one node captures
	ConditionComplete = "Complete" // the capture has ended on all nodes, or its end is over
	ConditionDegraded = "Degraded" // at least one node has an error
)

// State is the state of a capture, on a node or as a whole.
type State string

// The states.
const (
	Pending State = "Pending" // it waits for its start, or for its collector
	Active  State = "Active"
	Ended   State = "Ended"
	Failed  State = "Failed" // it is tried again, unless its filter is wrong
	Ending  State = "Ending" // it was deleted, and nodes still capture; of the capture as a whole
)

// Window returns when the capture begins and ends; an end of zero means never.
func (c *PacketCapture) Window() (start, end time.Time) {
	start = c.CreationTimestamp.Time
	if c.Spec.StartTime != nil {
		start = c.Spec.StartTime.Time
	}
	switch {
	case c.Spec.EndTime != nil:
		end = c.Spec.EndTime.Time
	case c.Spec.Duration != nil:
		end = start.Add(c.Spec.Duration.Duration)
	}
	return start, end
}

// LabelTenant is a label of a PacketCapture whose value collectors write into their files.
const LabelTenant = "dpservice.dev/tenant"

// Folder returns the name of the folder that has the capture's files at collectors: captures of the same name differ in
// it.
func (c *PacketCapture) Folder() string {
	const digits = 8
	return c.Name + "_" + string(c.UID[:min(len(c.UID), digits)])
}
