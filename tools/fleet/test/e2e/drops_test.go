// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/tools/fleet/api/v1alpha1"
)

// What the software drops is captured on each node, and the merged file has the reason by name.
func TestDropsOnAllHypervisors(t *testing.T) {
	f := newFleet(t)
	f.startCollector()
	f.mustPlugin("start", "lost", "--all", "--pf0", "--filter=icmp", "--drops", "--direction=none", "--tenant=acme")
	f.eventually("both nodes capture", func() bool { return f.capture("lost").Status.Nodes.Active == 2 })
	const nowhere = "203.0.113.1"
	want := map[string]int{}
	for i, h := range f.net.Hypervisors {
		g := h.Guests[0]
		route, err := g.Run(f.ctx, "ip", "route", "add", nowhere, "via", "169.254.0.1", "dev", "eth0", "onlink")
		require.NoError(t, err)
		require.NoError(t, route.Err())
		_, err = g.Run(f.ctx, "ping", "-n", "-c", "5", "-i", "0.1", "-W", "0.1", nowhere) // no answer
		require.NoError(t, err)
		want[node(i)+"/"+g.ID+"-drop-no_route"] = 5
	}
	f.mustPlugin("stop", "lost")
	f.eventually("it has ended", func() bool { return f.capture("lost").Status.State == v1alpha1.Ended })
	f.mustPlugin("fetch", "lost", "--from="+f.dir, "-o", f.net.Path("out"))
	got := map[string]int{}
	for name, frames := range read(t, f.net.Path("out/lost.pcapng")) {
		got[name] = len(frames)
	}
	assert.Equal(t, want, got)
}
