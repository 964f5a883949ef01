// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The labels of a PacketCaptureNode.
const (
	LabelCapture = "dpservice.dev/capture" // the name of the PacketCapture
	LabelNode    = "dpservice.dev/node"    // the name of the node; too long names are cut off
)

// PacketCaptureNode is the part that one node has in a PacketCapture. The node's agent alone writes it, while the node
// has something to capture. It is an object of its own because a thousand nodes that write into one would each be told
// of all others' writes.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=dpservice
// +kubebuilder:printcolumn:name="Capture",type=string,JSONPath=`.captureName`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.nodeName`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Packets",type=integer,JSONPath=`.status.packets`
// +kubebuilder:printcolumn:name="Error",type=string,JSONPath=`.status.error`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PacketCaptureNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	CaptureName string     `json:"captureName"`
	CaptureUID  string     `json:"captureUID"`
	NodeName    string     `json:"nodeName"`
	Status      NodeStatus `json:"status"`
}

// PacketCaptureNodeList is a list of PacketCaptureNodes.
//
// +kubebuilder:object:root=true
type PacketCaptureNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PacketCaptureNode `json:"items"`
}

// NodeStatus is what a node does for a capture.
type NodeStatus struct {
	// ObservedGeneration is the generation of the capture's spec that the rest is about.
	ObservedGeneration int64 `json:"observedGeneration"`
	// Revision changes with what the daemon's sessions are made of: counters are of one revision.
	Revision string `json:"revision,omitempty"`
	State    State  `json:"state"`
	// Reason says why the node is in this state, as one word.
	Reason string `json:"reason,omitempty"`
	// Error is what went wrong: what the daemon said, if it was the daemon.
	Error string `json:"error,omitempty"`
	// UnderlayIP is the source address of the node's copies.
	UnderlayIP string `json:"underlayIP,omitempty"`
	// Sink is where the node's copies go, address and port.
	Sink string `json:"sink,omitempty"`
	// Interfaces are those that are captured now.
	//
	// +listType=atomic
	Interfaces []NodeInterface `json:"interfaces,omitempty"`
	Packets    int64           `json:"packets"`
	Bytes      int64           `json:"bytes"`
	// +listType=atomic
	Warnings []string `json:"warnings,omitempty"`
	Clock    *Clock   `json:"clock,omitempty"`
	// UpdatedAt is when this was written.
	UpdatedAt metav1.Time `json:"updatedAt,omitempty"`
}

// NodeInterface is one direction of an interface that a node captures.
type NodeInterface struct {
	Name      string `json:"name"`          // the interface's id, or pf0
	VNI       int32  `json:"vni,omitempty"` // absent for pf0
	Direction string `json:"direction"`
	Label     int32  `json:"label"` // names it in the copies, together with the node's address
	Mode      string `json:"mode"`  // hardware or software: where the copies are made
	Packets   int64  `json:"packets"`
	Bytes     int64  `json:"bytes"`
}

// Clock is what a machine's kernel knows of its own clock.
type Clock struct {
	// Synchronized is whether something, such as an NTP client, keeps the clock.
	Synchronized bool `json:"synchronized"`
	// OffsetMicroseconds is by how much the clock has still to be corrected.
	OffsetMicroseconds int64 `json:"offsetMicroseconds"`
	// MaxErrorMicroseconds is a bound of the clock's error, as who keeps it has said.
	MaxErrorMicroseconds int64 `json:"maxErrorMicroseconds"`
}
