// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"dpservice/tools/fleet/api/v1alpha1"
)

// unseen are rights of elections that this API server, which has no leases, does not let happen: one is won, kept, and
// told of.
var unseen = []string{
	"dpservice-summary: update coordination.k8s.io/leases",
	"dpservice-summary: create events", "dpservice-summary: patch events",
	"dpservice-summary: create events.k8s.io/events", "dpservice-summary: patch events.k8s.io/events",
}

// Each program has the rights that it needs, and no others: what it asks of the API server in a life with all that may
// happen is all that deploy/fleet lets it do. Nodes come and go from a capture by their labels meanwhile.
func TestRights(t *testing.T) {
	f := newFleet(t)
	f.startCollector()
	f.startBy(f.as("dpservice-summary"), "dpservice-summary") // takes part in an election, and waits
	f.mustPlugin("start", "first", "--all", "--node-label=rack=r1")
	f.eventually("the node with the label captures", func() bool { return f.capture("first").Status.Nodes.Active == 1 })
	assert.Len(t, f.sessions(0), 1)
	assert.Empty(t, f.sessions(1))
	f.cluster.SetNode(node(1), map[string]string{"rack": "r1"})
	f.eventually("one that gets the label captures", func() bool { return f.capture("first").Status.Nodes.Active == 2 })
	f.cluster.SetNode(node(0), nil)
	f.eventually("one that loses it does not", func() bool { return len(f.sessions(0)) == 0 })
	f.mustPlugin("status")
	f.mustPlugin("stop", "first")
	f.eventually("it has ended", func() bool { return f.capture("first").Status.State == v1alpha1.Ended })
	f.mustPlugin("fetch", "first", "--from="+f.dir, "-o", f.net.Path("out"))
	f.mustPlugin("stop", "first", "--delete")
	f.eventually("it is gone", func() bool { return f.capture("first").Name == "" })

	// The report of an older capture of the same name is in the way, and a node does not come back.
	old := &v1alpha1.PacketCaptureNode{
		ObjectMeta:  metav1.ObjectMeta{Name: "second." + node(0), Labels: map[string]string{v1alpha1.LabelCapture: "second"}},
		CaptureName: "second", CaptureUID: "older", NodeName: node(0), Status: v1alpha1.NodeStatus{State: v1alpha1.Active},
	}
	require.NoError(t, f.client.Create(f.ctx, old))
	f.mustPlugin("start", "second", "--all")
	f.eventually("both nodes capture", func() bool { return f.capture("second").Status.Nodes.Active == 2 })
	f.mustPlugin("status", "second")
	f.agents[1].stop(syscall.SIGKILL)
	f.mustPlugin("stop", "second", "--delete")
	f.eventually("it is gone, too", func() bool { return f.capture("second").Name == "" })

	assert.Empty(t, f.cluster.Denied())
	for _, right := range f.cluster.Unused() {
		assert.Contains(t, unseen, right, "nobody needs it")
	}
}
