// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/test/record"
	"dpservice/test/topology"
)

// startTshark starts a tshark at the sink, where our extcap is installed.
func (b *lab) startTshark(args ...string) *topology.Process {
	b.t.Helper()
	d, dir := b.daemons[0], b.net.Path("extcap")
	require.NoError(b.t, os.MkdirAll(dir, 0o755))
	r, err := b.net.Run(b.ctx, "", "make", "-s", "-C", "../..", "install-extcap", "EXTCAP_DIR="+dir, "LUA_DIR="+b.net.Path("lua"),
		"DPCTL="+d.DpctlPath(),
		"DPSERVICE_SOCKET="+d.Socket)
	require.NoError(b.t, err)
	require.NoError(b.t, r.Err())
	require.FileExists(b.t, filepath.Join(dir, "dpservice"))
	// As root, tshark looks nowhere but in the system's folder: ours takes its place, for this one process.
	p, err := b.net.Sink.Start(append([]string{"unshare", "--mount", "sh", "-c",
		`mount --bind "$0" "$(tshark -G folders 2>/dev/null | sed -nE 's/^(Global )?Extcap path:[[:space:]]*//p')" && exec tshark "$@"`,
		dir}, args...)...)
	require.NoError(b.t, err)
	return p
}

// active waits until this number of captures is running.
func (b *lab) active(want int) {
	b.t.Helper()
	b.eventually(func() error {
		if len(b.status().Sessions) != want {
			return errors.New("not as many captures as wanted")
		}
		return nil
	})
}

// TestTsharkCaptures lets tshark at the sink capture a VM through the NIC, with a filter. It gets the frames that it
// would get in the VM. When it ends, the capture ends too, even if both tshark and our extcap are killed.
func TestTsharkCaptures(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	for name, signal := range map[string]syscall.Signal{"ends": syscall.SIGINT, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			file := b.net.Path(name + ".pcapng")
			sent := b.record(vm1.Namespace, "eth0", record.Out, "")
			w := record.Window{Starting: time.Now()}
			p := b.startTshark("-i", "dpservice-vf-vm-1", "-f", "icmp6", "-w", file, "-o",
				"extcap.dpservice_vf_vm_1.udpdstport:4010")
			b.active(1)
			w.Started = time.Now()
			s := b.session()
			require.Equal(t, "icmp6", s.Filter)
			require.Equal(t, b.net.SinkIP.String(), s.SinkNodeIP)
			require.EqualValues(t, 4010, s.UDPDstPort)
			b.startPing(vm1, vm2.IPv4.String(), time.Second).wait()
			b.startPing(vm1, vm2.IPv6.String(), time.Second).wait()
			b.eventually(func() error { // Wireshark's tools do not read on once they are to end
				all, err := sent.Frames()
				want := len(record.Filter(record.Between(all, w.Started, time.Now()), isICMPv6))
				written, _ := readReceived(file) // it may end within a frame
				if err == nil && (want == 0 || len(written) < want) {
					err = fmt.Errorf("tshark has written %d of %d frames", len(written), want)
				}
				return err
			})
			w.Stopping = time.Now()
			_, err := p.Stop(b.ctx, signal) // sent to our extcap as well
			require.NoError(t, err)
			b.active(0)
			w.Stopped = time.Now()
			b.stopRecording(sent)
			require.Empty(t, b.captureRules())
			if signal == syscall.SIGKILL {
				return // its file may lack what came last
			}
			frames := b.readReceived(file)
			copies := make([]record.Frame, len(frames))
			for i, f := range frames {
				copies[i] = f.Frame
			}
			require.NoError(t, record.Check(copies, b.accepted(sent, anyICMPv6), w))
			require.Equal(t, "stopped", b.ended(s.Name).EndReason)
		})
	}
}

// TestTsharkOnTwoInterfaces lets one tshark capture two VMs at once, beside a `dpctl capture receive`, with the default
// options. Each has its own UDP port, and gets what its VM sends.
func TestTsharkOnTwoInterfaces(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	beside := b.receive(b.net.Path("beside.pcapng"), "--udp-dst-port=3010")
	file := b.net.Path("two.pcapng")
	p := b.startTshark("-i", "dpservice-vf-vm-1", "-i", "dpservice-vf-vm-2", "-f", "icmp", "-w", file)
	b.active(2)
	ports := make(map[uint16]bool)
	for _, s := range b.status().Sessions {
		ports[s.UDPDstPort] = true
	}
	require.Equal(t, map[uint16]bool{3011: true, 3012: true}, ports)
	stop := b.pingOn(vm1, vm2.IPv4.String())
	b.eventually(func() error {
		seen := make(map[string]string) // the sources of each interface's frames
		frames, _ := readReceived(file) // it may end within a frame
		for _, f := range frames {
			seen[f.from] = net.IP(f.Data[26:30]).String()
		}
		if len(seen) != 2 || seen["vm-1"] != vm1.IPv4.String() || seen["vm-2"] != vm2.IPv4.String() {
			return fmt.Errorf("frames are of %v", seen)
		}
		return nil
	})
	stop()
	_, err := p.Stop(b.ctx, syscall.SIGINT)
	require.NoError(t, err)
	b.active(0)
	require.Empty(t, beside.stop(syscall.SIGTERM))
}

// isICMPv6 is what anyICMPv6 says of guests' frames: the only extension header that they have is hop-by-hop options.
func isICMPv6(f record.Frame) bool {
	const nextHeader, behindIPv6, hopByHop, icmpv6 = 14 + 6, 14 + 40, 0, 58
	if len(f.Data) <= behindIPv6 || f.Data[12] != 0x86 || f.Data[13] != 0xdd {
		return false
	}
	next := f.Data[nextHeader]
	return next == icmpv6 || next == hopByHop && f.Data[behindIPv6] == icmpv6
}

// TestTsharkEndsAtALimit sets a limit and VXLAN in Wireshark's options. tshark ends by itself.
func TestTsharkEndsAtALimit(t *testing.T) {
	const limit = 7
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	file, form := b.net.Path("limit.pcapng"), "extcap.dpservice_vf_vm_1."
	p := b.startTshark("-i", "dpservice-vf-vm-1", "-w", file, "-o", fmt.Sprint(form, "packets:", limit), "-o",
		form+"encap:vxlan",
		"-o", form+"filter:icmp")
	b.active(1)
	require.Equal(t, "vxlan", b.session().Encap)
	stop := b.pingOn(vm1, vm2.IPv4.String())
	result, err := p.Wait(b.ctx)
	stop()
	require.NoError(t, err)
	require.NoError(t, result.Err())
	b.active(0)
	frames := b.readReceived(file)
	require.Len(t, frames, limit)
	for _, f := range frames {
		require.EqualValues(t, 1, f.Data[14+9], "the protocol of %s", f)
	}
}
