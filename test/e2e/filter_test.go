// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
	"dpservice/wire"

	"github.com/stretchr/testify/require"
)

// anyICMPv6 is what "icmp6" means to a NIC, which also matches behind extension headers: multicast listener reports
// have one.
const anyICMPv6 = "ip6 protochain 58"

// accepted returns the frames of a recording that libpcap's own filter accepts.
func (b *lab) accepted(r *record.Recorder, filter string) []record.Frame {
	b.t.Helper()
	file := fmt.Sprintf("%s.%d", r.File, time.Now().UnixNano())
	out, err := exec.CommandContext(b.ctx, "tcpdump", "-r", r.File, "-w", file, filter).CombinedOutput()
	require.NoError(b.t, err, "%s", out)
	frames, err := record.Read(file)
	require.NoError(b.t, err)
	return frames
}

// copiesOn returns the copies of a recording that were sent to a UDP port, without their outer headers.
func (b *lab) copiesOn(r *record.Recorder, port int) []record.Frame {
	b.t.Helper()
	copies := b.accepted(r, fmt.Sprintf("udp dst port %d", port))
	for i := range copies {
		copies[i].Data = copies[i].Data[wire.CopyHeaderLen:]
	}
	return copies
}

// status returns dpctl's status of the captures.
func (b *lab) status() (status api.CaptureStatusResult) {
	b.t.Helper()
	require.NoError(b.t, json.Unmarshal([]byte(b.dpctl("-o", "json", "capture", "status")), &status))
	return status
}

// ended returns the last ended session of this name.
func (b *lab) ended(name string) api.CaptureSession {
	b.t.Helper()
	for _, s := range b.status().History {
		if s.Name == name {
			return s
		}
	}
	b.t.Fatalf("no session %s has ended", name)
	return api.CaptureSession{}
}

// startOn returns dpctl's arguments that start a named capture to a port of the sink.
func (b *lab) startOn(name string, port int, flags ...string) []string {
	args := []string{
		"capture", "start", "--name=" + name, "--sink-node-ip=" + b.net.SinkIP.String(), "--udp-src-port=3000",
		fmt.Sprintf("--udp-dst-port=%d", port),
	}
	return append(args, flags...)
}

// TestFilteredSessions runs three captures at the same time, to three UDP ports, each with a filter. Each sink port
// gets the frames of its interfaces that libpcap's filter accepts, and the capture's counters match what arrives.
func TestFilteredSessions(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2, 1)
	vm1, vm2, vm3 := b.vms[0], b.vms[1], b.vms[2]
	for _, to := range []string{vm2.IPv4.String(), vm2.IPv6.String(), vm3.IPv4.String(), vm3.IPv6.String()} {
		b.reach(vm1, to)
	}
	sessions := []struct {
		name, target, filter string
		port                 int
		libpcap              string // the same filter for libpcap, on the recorded frames
	}{
		{"tcp", "--vf=vm-1", "tcp port 5201 and not host " + vm3.IPv4.String(), 3010, ""},
		{"icmp", "--vf=vm-2", "icmp[icmptype] = icmp-echoreply or icmp6 or ip6 proto 17", 3011,
			"icmp[icmptype] = icmp-echoreply or ip6 proto 17 or " + anyICMPv6},
		{"wire", "--pf=0", "ip", 3012, "ip6 proto 4"},
	}
	c := b.startRecording(b.net.Sink, "eth0")
	sink := b.record(b.net.Sink, "eth0", record.In, "udp dst portrange 3010-3012")
	c.window.Starting = time.Now()
	for _, s := range sessions {
		b.dpctl(b.startOn(s.name, s.port, s.target, "--filter="+s.filter)...)
	}
	c.window.Started = time.Now()

	noLosses := b.losses()
	const run = 2 * time.Second
	pings := []*ping{
		b.startPing(vm1, vm2.IPv4.String(), run), b.startPing(vm1, vm2.IPv6.String(), run),
		b.startPing(vm3, vm1.IPv4.String(), run),
		b.startPing(vm3, vm1.IPv6.String(), run),
	}
	local := b.startIperf(vm1, vm2, vm2.IPv4.String(), 5201, run, "2M")
	remote := b.startIperf(vm3, vm1, vm1.IPv4.String(), 5202, run, "2M")
	for _, p := range pings {
		p.wait()
	}
	local.wait()
	remote.wait()
	noLosses()

	r, err := b.daemons[0].Dpctl(b.ctx, b.startOn("fourth", 3013, "--vf=vm-2")...)
	require.NoError(t, err)
	require.Equal(t, exitRefused, r.Code)
	require.Contains(t, r.Stderr, "vm-2 is captured by session icmp")
	require.Contains(t, b.dpctl("capture", "status"), "sample")
	c.window.Stopping = time.Now()
	b.dpctl("capture", "stop", "tcp")
	require.Len(t, b.status().Sessions, 2)
	b.dpctl("capture", "stop")
	c.window.Stopped = time.Now()
	require.Empty(t, b.captureRules())

	c.finish()
	b.stopRecording(sink)
	originals := []*record.Recorder{c.guests["vm-1"], c.guests["vm-2"], c.wire}
	for i, s := range sessions {
		t.Run(s.name, func(t *testing.T) {
			libpcap := s.libpcap
			if libpcap == "" {
				libpcap = s.filter
			}
			copies := b.copiesOn(sink, s.port)
			require.NotEmpty(t, copies)
			require.NoError(t, record.Check(copies, b.accepted(originals[i], libpcap), c.window))
			require.Less(t, len(copies), len(b.accepted(originals[i], "")), "the filter takes not all")
			checkCounted(t, b.ended(s.name), copies)
		})
	}
}

// checkCounted requires that the counters of a session match the packets and bytes that have arrived.
func checkCounted(t *testing.T, s api.CaptureSession, copies []record.Frame) {
	t.Helper()
	bytes := 0
	for _, f := range copies {
		bytes += len(f.Data)
	}
	require.EqualValues(t, len(copies), s.Packets)
	require.EqualValues(t, bytes, s.Bytes)
	sampled := uint64(0)
	for _, i := range s.Interfaces {
		for _, r := range i.Rules {
			if r.Action == "sample" {
				sampled += r.Packets
			}
		}
	}
	if s.Filter != "" {
		require.Equal(t, s.Packets, sampled)
	}
}

// TestCaptureLimits lets captures end by themselves under traffic, each at another limit, and checks what they report
// afterwards.
func TestCaptureLimits(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	noLosses := b.losses()
	stop := b.pingOn(vm1, vm2.IPv4.String())
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	for reason, limit := range map[string]string{"duration": "500ms", "packets": "50", "bytes": "5k"} {
		t.Run(reason, func(t *testing.T) {
			sink := b.record(b.net.Sink, "eth0", record.In, sinkFilter)
			b.dpctl(b.startOn(reason, 3010, "--vf=vm-1", "--"+reason+"="+limit)...)
			b.eventually(func() error {
				if n := len(b.status().Sessions); n > 0 {
					return fmt.Errorf("%d sessions are active", n)
				}
				return nil
			})
			s := b.ended(reason)
			require.Equal(t, reason, s.EndReason)
			require.NotNil(t, s.EndedAt)
			require.Contains(t, b.dpctl("capture", "status"), "Ended:")
			b.stopRecording(sink)
			checkCounted(t, s, b.copiesOn(sink, 3010))
			switch reason {
			case "packets":
				require.GreaterOrEqual(t, s.Packets, uint64(50))
			case "bytes":
				require.GreaterOrEqual(t, s.Bytes, uint64(5<<10))
			case "duration":
				require.GreaterOrEqual(t, s.EndedAt.Sub(*s.StartedAt), 500*time.Millisecond)
			}
		})
	}
	stop()
	noLosses()
	require.Empty(t, b.captureRules())
}

// capabilities returns dpctl's list of what can be captured.
func (b *lab) capabilities() []api.CapturePort {
	b.t.Helper()
	var result api.CaptureCapabilitiesResult
	require.NoError(b.t, json.Unmarshal([]byte(b.dpctl("-o", "json", "capture", "capabilities")), &result))
	return result.Ports
}

// TestCapabilities asks the NIC what it can, and filters for more than that. In the tunnel, rules see only the version
// of IP.
func TestCapabilities(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1)
	for _, p := range b.capabilities() {
		mode := map[bool]string{true: "software", false: "hardware"}[p.Port == b.net.NIC.PFs[1]]
		require.Equal(t, mode, p.Mode)
		require.True(t, p.RX.Supported, "%+v", p)
		require.Equal(t, p.Role == "vf", p.TX.Supported, "%+v", p)
		require.Equal(t, p.TX.Supported, p.TX.Reason == "")
		for _, c := range p.Encaps {
			require.True(t, c.Supported, "%s: %+v", p.Port, c)
		}
		for _, c := range p.Filter {
			supported := p.Role == "vf" || c.Name != "vlan" && c.Name != "ether"
			if p.Role == "pf" && p.Mode == "hardware" {
				supported = slices.Contains([]string{"ip", "ip6", "arp"}, c.Name)
			}
			require.Equal(t, supported, c.Supported, "%s: %+v", p.Port, c)
			require.Equal(t, supported, c.Reason == "", "%s: %+v", p.Port, c)
		}
	}
	require.Contains(t, b.dpctl("capture", "capabilities"), b.net.NIC.PFs[1])
	for filter, reason := range map[string]string{
		"tcp and": "INVALID_PARAMS", "greater 100": "NOT_SUPPORTED", "src and dst portrange 3-60001": "LIMIT_REACHED",
	} {
		r, err := b.daemons[0].Dpctl(b.ctx, b.startOn("x", 3010, "--vf=vm-1", "--filter="+filter)...)
		require.NoError(t, err)
		require.Equal(t, exitRefused, r.Code)
		require.Contains(t, r.Stderr, reason)
	}
	r, err := b.daemons[0].Dpctl(b.ctx, b.startOn("x", 3010, "--vf=vm-1", "--pf=0", "--filter=udp port 53")...)
	require.NoError(t, err)
	require.Equal(t, exitRefused, r.Code)
	require.Regexp(t, `(?s)RULE_REJECTED.*interface: pf0.*rte_flow_error: item: `, r.Stderr)
	require.Empty(t, b.captureRules())
	plan := b.dpctl(b.startOn("x", 3010, "--vf=vm-1", "--filter=udp port 53", "--dry-run")...)
	require.Contains(t, plan, "/ udp dst is 53 / end")
	require.Empty(t, b.captureRules())
}
