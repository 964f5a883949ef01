// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"dpservice/test/topology"
)

// trace starts `dpctl trace` of an interface, and waits until it traces.
func (b *lab) trace(args ...string) *topology.Process {
	b.t.Helper()
	d := b.daemons[0]
	p, err := b.net.Sink.Start(append([]string{d.DpctlPath(), "--socket", d.Socket, "trace"}, args...)...)
	require.NoError(b.t, err)
	require.NoError(b.t, p.WaitOutput(b.ctx, p.Stderr, "Ctrl-C ends it"))
	return p
}

// finish waits until a trace has shown all packets that it was to show.
func (b *lab) finish(p *topology.Process) topology.Result {
	b.t.Helper()
	result, err := p.Wait(b.ctx)
	require.NoError(b.t, err)
	require.NoError(b.t, result.Err())
	return result
}

// nextTraceBegins waits until a trace begins, as it does once the one before has ended.
func (b *lab) nextTraceBegins() {
	b.t.Helper()
	d := b.daemons[0]
	b.eventually(func() error {
		q, err := b.net.Sink.Run(b.ctx, "timeout", "-s", "INT", "1", d.DpctlPath(), "--socket", d.Socket, "trace",
			"--interface=vm-2")
		if err != nil {
			return err
		}
		if !strings.Contains(q.Stderr, "tracing vm-2") {
			return q.Err()
		}
		return nil
	})
}

// TestTrace follows packets of a guest through the packet graph, whatever becomes of them.
func TestTrace(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String()) // both MACs are known
	sender := b.craft(vm1)

	t.Run("the first packet of a flow", func(t *testing.T) {
		p := b.trace("--interface=vm-1", "--filter=udp port 40002", "--count=1")
		sender.udp(vm1.IPv4, vm2.IPv4, 64)
		result := b.finish(p)
		require.Contains(t, result.Stderr, "packets that the NIC forwards by itself are not seen")
		require.Contains(t, result.Stdout, "flow new, or resolved again after a change; delivered to vm-2 by ")
		require.Contains(t, result.Stdout, "offered to the NIC just now")
		const nodes = `rx-\S+ \d+ > classify_guest \d+ > flow_lookup \d+ > flow_route \d+ > deliver \d+ > tx-\S+ \d+ `
		require.Regexp(t, nodes+`\(\d+ cycles`, result.Stdout)
	})

	t.Run("TCP SYN of a known flow", func(t *testing.T) {
		for _, flow := range []string{"new, or resolved again after a change", "known"} {
			p := b.trace("--interface=vm-1", "--filter=tcp dst port 9", "--count=1")
			ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: vm1.IPv4.AsSlice(),
				DstIP: vm2.IPv4.AsSlice()}
			tcp := &layers.TCP{SrcPort: 40000, DstPort: 9, SYN: true, Window: 1000}
			require.NoError(t, tcp.SetNetworkLayerForChecksum(ip))
			sender.send(layers.EthernetTypeIPv4, ip, tcp)
			result := b.finish(p)
			require.Contains(t, result.Stdout, "flow "+flow+"; delivered to vm-2 by ")
			require.Contains(t, result.Stdout, "it waits for a packet without SYN, FIN or RST")
		}
	})

	t.Run("a forged source, in a file", func(t *testing.T) {
		file := b.net.Path("trace.pcapng")
		p := b.trace("--interface=vm-1", "--drops", "--count=1", "-w", file)
		sender.udp(vm1.IPv4, vm2.IPv4, 64)
		sender.udp(vm2.IPv4.Next(), vm2.IPv4, 64)
		require.Empty(t, b.finish(p).Stdout)
		result, err := b.net.Sink.Run(b.ctx, "tshark", "-r", file, "-T", "fields", "-e", "ip.src", "-e", "frame.comment")
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(result.Stdout,
			vm2.IPv4.Next().String()+"\tdropped: its source address is not the guest's own (drop_spoofed)"), result.Stdout)
	})

	t.Run("ends with its client", func(t *testing.T) {
		for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGKILL} {
			p := b.trace("--interface=vm-1")
			d := b.daemons[0]
			refused, err := b.net.Sink.Run(b.ctx, d.DpctlPath(), "--socket", d.Socket, "trace", "--interface=vm-2")
			require.NoError(t, err)
			require.Equal(t, 1, refused.Code)
			require.Contains(t, refused.Stderr, "traces interface vm-1 since ")
			_, err = p.Stop(b.ctx, sig)
			require.NoError(t, err)
			b.nextTraceBegins()
		}
	})

	t.Run("killed at any time", func(t *testing.T) {
		stop := b.pingOn(vm1, vm2.IPv4.String())
		defer stop()
		for range 10 {
			d := b.daemons[0]
			p, err := b.net.Sink.Start(d.DpctlPath(), "--socket", d.Socket, "trace", "--interface=vm-1")
			require.NoError(t, err)
			time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
			_, err = p.Stop(b.ctx, syscall.SIGKILL)
			require.NoError(t, err)
		}
		b.nextTraceBegins()
	})
	b.reach(vm1, vm2.IPv4.String())
}
