// SPDX-License-Identifier: Apache-2.0

package vnet

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNetworks(t *testing.T) {
	addr := netip.MustParseAddr
	near, far := addr("fc00:1::1"), addr("fc00:2::1")
	route := func(vni uint32, prefix string, hop netip.Addr) Route {
		return Route{VNI: vni, Prefix: netip.MustParsePrefix(prefix), NextHopIP: hop}
	}
	n := Networks{
		Interfaces: []Attachment{
			{Interface: Interface{ID: "a", Port: 2, VNI: 1, IPv4: addr("10.0.0.1")}, Index: 7},
			{Interface: Interface{ID: "b", Port: 3, VNI: 2, IPv4: addr("10.0.0.1"), IPv6: addr("fd00::1")}, Index: 8},
		},
		Routes: []Route{
			route(1, "0.0.0.0/0", far), route(1, "10.0.1.0/24", near), route(1, "10.0.0.0/16", far),
			route(2, "10.0.1.5/32", far),
		},
	}
	id := func(a Attachment, _ bool) string { return a.ID }
	assert.Equal(t, "b", id(n.OnPort(3)))
	assert.Equal(t, "a", id(n.ByID("a")))
	assert.Equal(t, "b", id(n.ByIndex(8)))
	assert.Equal(t, "b", id(n.WithAddress(2, addr("10.0.0.1"))))
	assert.Equal(t, "b", id(n.WithAddress(2, addr("fd00::1"))))
	_, found := n.WithAddress(1, addr("fd00::1"))
	assert.False(t, found, "of another network")

	prefix := func(r Route, _ bool) string { return r.Prefix.String() }
	assert.Equal(t, "10.0.1.0/24", prefix(n.Route(1, addr("10.0.1.5"))))
	assert.Equal(t, "10.0.0.0/16", prefix(n.RouteTo(far, 1, addr("10.0.1.5"))))
	_, found = n.Route(2, addr("10.0.1.6"))
	assert.False(t, found)
}
