// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PacketCollector is a running collector, which alone writes it. Its owner is the collector's pod, so that it goes with
// the pod.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,categories=dpservice
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.pool`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.address`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PacketCollector struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Pool is the pool that it belongs to.
	Pool string `json:"pool"`
	// Address is the IPv6 address that it receives at.
	Address string `json:"address"`
	// Captures are those that it receives copies of. An agent starts a capture when it finds it here.
	//
	// +listType=map
	// +listMapKey=uid
	Captures []CollectedCapture `json:"captures,omitempty"`
	Clock    *Clock             `json:"clock,omitempty"`
}

// PacketCollectorList is a list of PacketCollectors.
//
// +kubebuilder:object:root=true
type PacketCollectorList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PacketCollector `json:"items"`
}

// CollectedCapture is a capture that a collector receives copies of.
type CollectedCapture struct {
	UID   string `json:"uid"`
	Port  int32  `json:"port"`            // 0: it receives no more, and has files yet to be taken away
	Error string `json:"error,omitempty"` // why it does not receive
}
