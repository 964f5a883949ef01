// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// TestGuestsFragments makes guests send packets that are larger than their MTU, over a wire with a smaller MTU. The
// fragments are fragmented again where necessary, and the NIC never forwards them.
//
// The NIC's far sides use net_pcap: net_af_packet reassembles fragments, which no card does. net_af_packet is tested
// separately, on plain ports with large enough buffers.
func TestGuestsFragments(t *testing.T) {
	tests := map[string]func(h *topology.Hypervisor) topology.DaemonConfig{
		"offloaded": func(*topology.Hypervisor) topology.DaemonConfig {
			return topology.DaemonConfig{FarSides: "net_pcap"}
		},
		"in software": func(*topology.Hypervisor) topology.DaemonConfig {
			return topology.DaemonConfig{FarSides: "net_pcap", NoOffload: true}
		},
		"put together by the kernel": func(h *topology.Hypervisor) topology.DaemonConfig {
			p := h.Plain("net_af_packet")
			for i := range p.EAL {
				p.EAL[i] += ",framesz=8192,blocksz=8192"
			}
			return topology.DaemonConfig{Plain: p, Extra: "mbufs: 4096\nmbuf_size: 8192\n"}
		},
	}
	for name, config := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, n := newNetwork(t, 2, 1)
			setWireMTU(t, n, 1400)
			b := &lab{t: t, ctx: ctx, net: n, vms: n.Guests()}
			for _, h := range n.Hypervisors {
				b.daemons = append(b.daemons, startDaemon(ctx, t, h, config(h)))
			}
			b.connect()
			b.pingInFragments(b.vms[0], b.vms[1])
			b.pingInFragments(b.vms[0], b.vms[2])
			b.pingInFragments(b.vms[2], b.vms[1])
		})
	}
}

// pingInFragments sends packets of several fragments, all of which the software forwards.
func (b *lab) pingInFragments(from, to *topology.Guest) {
	b.t.Helper()
	const size = "4000"
	for _, address := range []string{to.IPv4.String(), to.IPv6.String()} {
		b.reach(from, address)
		before := b.softwareLookups()
		b.says(from, ", 0% packet loss", "-s", size, address)
		require.GreaterOrEqual(b.t, b.softwareLookups(), before+4, "the NIC has forwarded fragments")
	}
}
