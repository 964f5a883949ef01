// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
	"dpservice/wire"

	"github.com/stretchr/testify/require"
)

// labels returns the labels of the captured interfaces, by interface id.
func (b *lab) labels() map[string]uint32 {
	b.t.Helper()
	var status api.CaptureStatusResult
	require.NoError(b.t, json.Unmarshal([]byte(b.dpctl("-o", "json", "capture", "status")), &status))
	labels := make(map[string]uint32)
	for _, s := range status.Sessions {
		for _, i := range s.Interfaces {
			require.NotZero(b.t, i.Label)
			require.Less(b.t, i.Label, uint32(1<<20))
			require.NotContains(b.t, labels, i.VF)
			labels[i.VF] = i.Label
		}
	}
	return labels
}

// TestCaptureLabels captures two VMs. The flow label of a copy identifies the VM that has sent the original.
func TestCaptureLabels(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	b.reach(b.vms[0], b.vms[1].IPv4.String())
	c := b.startRecording(b.net.Sink, "eth0")
	c.start(b.net.SinkIP.String(), "--vf=vm-1,vm-2")
	labels := b.labels()
	b.startPing(b.vms[0], b.vms[1].IPv4.String(), time.Second).wait()
	c.stop()
	c.check(c.finish(), "vm-1", "vm-2")
	b.checkLabels(c.sink.File, "ipv6.flow", labels)
}

// checkLabels compares the field that identifies the sender with the sender's MAC in each copy.
func (b *lab) checkLabels(file, field string, labels map[string]uint32) {
	b.t.Helper()
	of := make(map[string]string)
	for _, vm := range b.vms {
		mac, err := vm.MAC("eth0")
		require.NoError(b.t, err)
		of[mac.String()] = vm.ID
	}
	rows, err := record.Fields(b.ctx, b.net.Lab, file, "udp", field)
	require.NoError(b.t, err)
	frames, err := record.Read(file)
	require.NoError(b.t, err)
	require.Len(b.t, rows, len(frames))
	seen := make(map[string]int)
	for i, row := range rows {
		label, err := strconv.ParseUint(row[0], 0, 32)
		require.NoError(b.t, err)
		inner := frames[i].Data[wire.CopyHeaderLen:]
		if field == "vxlan.vni" {
			inner = frames[i].Data[wire.VXLANCopyHeaderLen:]
		}
		id := of[fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", inner[6], inner[7], inner[8], inner[9], inner[10], inner[11])]
		require.EqualValues(b.t, labels[id], label, "a copy of %q", id)
		seen[id]++
	}
	require.Len(b.t, seen, len(labels))
}

// TestCaptureToKernelVXLAN uses the kernel's own vxlan devices as the sink, one for each label. Each receives the
// frames of one VM, byte for byte, without a tool that removes headers.
func TestCaptureToKernelVXLAN(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2, sink := b.vms[0], b.vms[1], b.net.SinkIP.String()
	b.reach(vm1, vm2.IPv4.String())

	// A first session shows the labels, which do not change.
	b.dpctl("capture", "start", "--sink-node-ip="+sink, "--udp-src-port=3000", "--encap=vxlan", "--vf=vm-1,vm-2")
	labels := b.labels()
	b.dpctl("capture", "stop")

	outer := b.record(b.net.Sink, "eth0", record.In, "udp dst port 4789")
	sent, received := make(map[string]*record.Recorder), make(map[string]*record.Recorder)
	for _, vm := range b.vms {
		device := "vx-" + vm.ID
		require.NoError(t, b.net.Sink.IP(
			fmt.Sprintf("link add %s mtu 1500 type vxlan id %d local %s dstport 4789 udp6zerocsumrx", device, labels[vm.ID],
				sink),
			fmt.Sprintf("link set %s up", device)))
		received[vm.ID] = b.record(b.net.Sink, device, record.In, "")
		sent[vm.ID] = b.record(vm.Namespace, "eth0", record.Out, "")
	}
	w := record.Window{Starting: time.Now()}
	b.dpctl("capture", "start", "--sink-node-ip="+sink, "--udp-src-port=3000", "--encap=vxlan", "--vf=vm-1,vm-2")
	w.Started = time.Now()
	require.Equal(t, labels, b.labels())
	b.startPing(vm1, vm2.IPv4.String(), time.Second, "-s", "1472").wait()
	b.startPing(vm2, vm1.IPv6.String(), time.Second).wait()
	w.Stopping = time.Now()
	b.dpctl("capture", "stop")
	w.Stopped = time.Now()

	for _, vm := range b.vms {
		recorded := b.stopRecordings(sent[vm.ID], received[vm.ID])
		originals, copies := recorded[0], recorded[1]
		require.NotEmpty(t, record.Between(originals, w.Started, w.Stopping))
		require.NoError(t, record.Check(copies, originals, w), vm.ID)
	}
	b.stopRecording(outer)
	b.checkLabels(outer.File, "vxlan.vni", labels)
	b.checkVXLANLengths(outer.File)
	malformed, err := record.Malformed(b.ctx, b.net.Lab, outer.File)
	require.NoError(t, err)
	require.Empty(t, malformed)
}

// checkVXLANLengths checks the lengths that the NIC has filled in.
func (b *lab) checkVXLANLengths(file string) {
	b.t.Helper()
	rows, err := record.Fields(b.ctx, b.net.Lab, file, "vxlan", "frame.len", "ipv6.plen", "udp.length", "udp.checksum",
		"vxlan.flags", "ipv6.flow")
	require.NoError(b.t, err)
	require.NotEmpty(b.t, rows)
	for _, row := range rows {
		length, err := strconv.Atoi(row[0])
		require.NoError(b.t, err)
		payload := strconv.Itoa(length - 14 - 40)
		require.Equal(b.t, []string{payload, payload, "0x0000", "0x0800"}, row[1:5])
		require.Contains(b.t, []string{"0x00000", "0x000000"}, row[5], "the VNI is the label")
	}
}
