// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the resources by which Kubernetes captures packets on many hypervisors at once.
//
// A person writes a PacketCapture. The agent of each node that has something to capture writes a PacketCaptureNode, and
// each running collector a PacketCollector. The spec of a PacketCapture can be changed: the capture then begins anew.
//
// +kubebuilder:object:generate=true
// +groupName=dpservice.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

//go:generate go tool controller-gen object paths=. crd:crdVersions=v1 output:crd:dir=../../../../deploy/fleet/crd

// GroupVersion is the group of the resources, and their version.
var GroupVersion = schema.GroupVersion{Group: "dpservice.dev", Version: "v1alpha1"}

// AddToScheme makes the resources' types known to a client.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &PacketCapture{}, &PacketCaptureList{}, &PacketCaptureNode{}, &PacketCaptureNodeList{},
		&PacketCollector{}, &PacketCollectorList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
