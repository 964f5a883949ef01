// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dpservice/test/topology"
)

// says runs ping until it prints the words, with any spaces, and requires that it does soon. One ping may not suffice:
// errors are rate-limited, and may get lost.
func (b *lab) says(from *topology.Guest, words string, args ...string) {
	b.t.Helper()
	packed := func(text string) string { return strings.ReplaceAll(text, " ", "") }
	argv := append([]string{"ping", "-n", "-c", "2", "-i", "0.1", "-W", "1"}, args...)
	b.eventually(func() error {
		r, err := from.Run(b.ctx, argv...)
		if err == nil && !strings.Contains(packed(r.Stdout+r.Stderr), packed(words)) {
			err = fmt.Errorf("%v said %s%s, not %s", argv, r.Stdout, r.Stderr, words)
		}
		return err
	})
}

// setWireMTU changes the MTU of all wires before there is a daemon on them.
func setWireMTU(t *testing.T, n *topology.Network, mtu int) {
	t.Helper()
	for _, h := range n.Hypervisors {
		require.NoError(t, h.IP(fmt.Sprintf("link set wire0 mtu %d", mtu), fmt.Sprintf("link set wire1 mtu %d", mtu)))
		require.NoError(t, n.Router.IP(fmt.Sprintf("link set %s mtu %d", h.RouterLink, mtu)))
	}
}

// TestRouterErrors checks by ping the ICMP errors that the gateway sends to guests about packets without a route, or
// that are too big, both from this hypervisor and, through the tunnel, from another one.
func TestRouterErrors(t *testing.T) {
	const wireMTU, smallMTU, room = 1400, 1320, 1400 - 40
	ctx, n := newNetwork(t, 2, 1)
	setWireMTU(t, n, wireMTU)
	require.NoError(t, n.Hypervisors[0].IP(fmt.Sprintf("link set guest1 mtu %d", smallMTU)))
	require.NoError(t, n.Hypervisors[0].Guests[1].IP(fmt.Sprintf("link set eth0 mtu %d", smallMTU)))
	b := startLab(ctx, t, n, topology.DaemonConfig{NoOffload: true})
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	for _, to := range []*topology.Guest{vm2, vm3} {
		b.reach(vm1, to.IPv4.String())
		b.reach(vm1, to.IPv6.String())
		b.reach(vm3, to.IPv4.String())
		b.reach(vm3, to.IPv6.String())
	}
	t.Run("time exceeded", func(t *testing.T) {
		for _, to := range []*topology.Guest{vm2, vm3} {
			b.says(vm1, "From 169.254.0.1 icmp_seq=1 Time to live exceeded", "-t", "1", to.IPv4.String())
			b.says(vm1, "icmp_seq=1 Time exceeded: Hop limit", "-t", "1", to.IPv6.String())
			b.says(vm1, "From "+gatewayIPv6, "-t", "1", to.IPv6.String())
			b.says(vm1, ", 0% packet loss", "-t", "2", to.IPv4.String())
			b.says(vm1, ", 0% packet loss", "-t", "2", to.IPv6.String())
		}
	})
	t.Run("no route", func(t *testing.T) {
		b.says(vm1, "From 169.254.0.1 icmp_seq=1 Destination Net Unreachable", "203.0.113.1")
		b.says(vm1, "icmp_seq=1 Destination unreachable: No route", "2001:db8::1")
	})
	t.Run("too big for the uplink", func(t *testing.T) {
		b.says(vm1, ", 0% packet loss", "-M", "do", "-s", fmt.Sprint(room-28), vm3.IPv4.String())
		b.says(vm1, fmt.Sprintf("mtu = %d", room), "-M", "do", "-s", fmt.Sprint(room-27), vm3.IPv4.String())
		b.says(vm1, ", 0% packet loss", "-M", "do", "-s", fmt.Sprint(room-48), vm3.IPv6.String())
		b.says(vm1, fmt.Sprintf("mtu = %d", room), "-M", "do", "-s", fmt.Sprint(room-47), vm3.IPv6.String())
	})
	t.Run("too big for a guest behind the tunnel", func(t *testing.T) {
		b.says(vm3, fmt.Sprintf("mtu = %d", smallMTU), "-M", "do", "-s", fmt.Sprint(smallMTU-27), vm2.IPv4.String())
		b.says(vm3, fmt.Sprintf("mtu = %d", smallMTU), "-M", "do", "-s", fmt.Sprint(smallMTU-47), vm2.IPv6.String())
	})
	t.Run("too big, but may be cut", func(t *testing.T) {
		b.says(vm1, ", 0% packet loss", "-M", "dont", "-s", "1450", vm3.IPv4.String())
		b.says(vm3, ", 0% packet loss", "-M", "dont", "-s", "1450", vm2.IPv4.String())
	})
}
