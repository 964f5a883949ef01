// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/test/record"
	"dpservice/test/topology"
)

// live starts `dpctl capture live` at the sink, and waits until it captures.
func (b *lab) live(socket string, args ...string) *topology.Process {
	b.t.Helper()
	d := b.daemons[0]
	p, err := b.net.Sink.Start(append([]string{d.DpctlPath(), "--socket", socket, "capture", "live"}, args...)...)
	require.NoError(b.t, err)
	require.NoError(b.t, p.WaitOutput(b.ctx, p.Stderr, "Ctrl-C ends it"))
	return p
}

// echo is a line about an ICMP echo, as tcpdump, tshark and dpctl itself show it.
var echo = regexp.MustCompile(`(?i)^(vm-[12]) (rx|tx) .*10\.100\.0\.\d.*echo ?(?:\(ping\) )?(request|reply)`)

// TestCaptureLive sees with one command what VMs send and receive, without a word about sinks and ports. It leaves
// nothing behind, however it ends.
func TestCaptureLive(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	socket, rules := b.daemons[0].Socket, len(b.captureRules())
	b.reach(vm1, vm2.IPv4.String())

	for _, show := range []string{"tcpdump", "tshark", "plain"} {
		t.Run(show, func(t *testing.T) {
			p := b.live(socket, "--show="+show, "--count=16", "vm-1,vm-2", "icmp")
			stop := b.pingOn(vm1, vm2.IPv4.String())
			result, err := p.Wait(b.ctx)
			stop()
			require.NoError(t, err)
			require.NoError(t, result.Err())
			require.Contains(t, result.Stderr, "16 copies received")
			seen := make(map[string]int)
			lines := strings.Split(strings.TrimSpace(result.Stdout), "\n")
			require.Len(t, lines, 16, result.Stdout)
			for _, line := range lines {
				match := echo.FindStringSubmatch(line)
				require.NotNil(t, match, line)
				seen[match[1]+" "+match[2]+" "+strings.ToLower(match[3])]++
			}
			// Requests leave vm-1 and reach vm-2, replies the other way.
			for _, point := range []string{"vm-1 rx request", "vm-2 tx request", "vm-2 rx reply", "vm-1 tx reply"} {
				require.InDelta(t, 4, seen[point], 1, seen)
			}
			require.Len(t, seen, 4, seen)
			b.active(0)
		})
	}

	t.Run("file of a network, through a forwarded socket", func(t *testing.T) {
		forwarded, file := b.net.Path("forwarded.sock"), b.net.Path("live.pcapng")
		ssh, err := b.net.Sink.Start("socat", "UNIX-LISTEN:"+forwarded+",fork", "UNIX-CONNECT:"+socket)
		require.NoError(t, err)
		b.eventually(func() error { return syscall.Access(forwarded, 0) })
		sent := b.record(vm1.Namespace, "eth0", record.Out, "")
		p := b.live(forwarded, fmt.Sprintf("--vni=%d", vm1.VNI), "--direction=rx", "-w", file, "icmp6")
		w := record.Window{Starting: time.Now(), Started: time.Now()}
		b.startPing(vm1, vm2.IPv6.String(), 2*time.Second).wait()
		w.Stopping = time.Now()
		result, err := p.Stop(b.ctx, syscall.SIGINT)
		require.NoError(t, err)
		require.NoError(t, result.Err())
		w.Stopped = time.Now()
		b.stopRecording(sent)
		require.NoError(t, record.Check(of(b.readReceived(file), "vm-1"), b.accepted(sent, anyICMPv6), w))
		b.active(0)
		_, err = ssh.Stop(b.ctx, syscall.SIGTERM)
		require.NoError(t, err)
	})

	t.Run("killed at any time", func(t *testing.T) {
		stop := b.pingOn(vm1, vm2.IPv4.String())
		defer stop()
		for range 10 {
			p, err := b.net.Sink.Start(b.daemons[0].DpctlPath(), "--socket", socket, "capture", "live", "--all")
			require.NoError(t, err)
			time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
			_, err = p.Stop(b.ctx, syscall.SIGKILL)
			require.NoError(t, err)
			time.Sleep(100 * time.Millisecond) // a request may be on its way
			b.active(0)
		}
		require.Len(t, b.captureRules(), rules)
	})

	command := strings.Join([]string{b.daemons[0].DpctlPath(), "--socket", socket, "capture", "live"}, " ")
	t.Run("on a terminal that dies", func(t *testing.T) {
		terminal, err := b.net.Sink.Start("script", "-qfec", command+" vm-1", "/dev/null")
		require.NoError(t, err)
		require.NoError(t, terminal.WaitOutput(b.ctx, terminal.Stdout, "Ctrl-C ends it"))
		b.active(1)
		_, err = terminal.Stop(b.ctx, syscall.SIGKILL)
		require.NoError(t, err)
		b.active(0)
		b.eventually(func() error { // what it had decode packets has ended, too
			for _, program := range []string{"dpctl", "tcpdump"} {
				left, err := b.net.Sink.Run(b.ctx, "sh", "-c", `for pid in $(ip netns pids "$0"); do cat /proc/$pid/comm; done`,
					b.net.Sink.Name)
				if err != nil || strings.Contains(left.Stdout, program) {
					return fmt.Errorf("%s runs on: %s %w", program, left.Stdout, err)
				}
			}
			return nil
		})
	})

	t.Run("interrupted", func(t *testing.T) {
		p := b.live(socket, "vm-1")
		result, err := p.Stop(b.ctx, syscall.SIGINT)
		require.NoError(t, err)
		require.NoError(t, result.Err())
		require.Contains(t, result.Stderr, "copies received")
		b.active(0)
	})

	for name, c := range map[string]struct{ rest, want string }{
		"into a pipe, for a time": {
			"--duration=3s -w - vm-1 icmp | tshark -n -r - -c 4 -T fields -e frame.interface_name -e icmp.type",
			`^(vm-1\t8\nvm-1-tx\t0\n){2}$`,
		},
		"to who reads no more": {"vm-1 icmp | head -n 2", `^vm-1 rx .*\nvm-1 tx .*\n$`},
	} {
		t.Run(name, func(t *testing.T) {
			stop := b.pingOn(vm1, vm2.IPv4.String())
			defer stop()
			result, err := b.net.Sink.Run(b.ctx, "sh", "-c", command+" "+c.rest)
			require.NoError(t, err)
			require.NoError(t, result.Err())
			require.Regexp(t, c.want, result.Stdout)
			b.active(0)
		})
	}

	t.Run("stopped by somebody else", func(t *testing.T) {
		p := b.live(socket, "vm-1")
		require.Contains(t, b.dpctl("capture", "status"), "it ends with the client that has started it")
		b.dpctl("capture", "stop")
		result, err := p.Wait(b.ctx)
		require.NoError(t, err)
		require.NoError(t, result.Err())
	})

	t.Run("where no copies would arrive", func(t *testing.T) {
		for _, address := range []string{"fc00:77::1", "10.0.0.1", "sink"} {
			r, err := b.net.Sink.Run(b.ctx, b.daemons[0].DpctlPath(), "--socket", socket, "capture", "live", "vm-1",
				"--sink-node-ip="+address)
			require.NoError(t, err)
			require.Equal(t, 1, r.Code)
			require.Contains(t, r.Stderr, fmt.Sprintf("%q is no IPv6 address of this machine", address))
		}
		nowhere, err := b.net.Namespace("nowhere")
		require.NoError(t, err)
		command := []string{b.daemons[0].DpctlPath(), "--socket", socket, "capture", "live", "vm-1"}
		result, err := nowhere.Run(b.ctx, command...)
		require.NoError(t, err)
		require.Equal(t, 1, result.Code)
		require.Contains(t, result.Stderr, "this machine does not reach the node's underlay address")

		stop := b.pingOn(vm1, vm2.IPv4.String())
		defer stop()
		p, err := vm2.Start(command...) // it has a route, but nothing in the underlay leads back
		require.NoError(t, err)
		require.NoError(t, p.WaitOutput(b.ctx, p.Stderr, "and none has arrived here"))
		_, err = p.Stop(b.ctx, syscall.SIGINT)
		require.NoError(t, err)
		b.active(0)
	})
}
