// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
)

// receiver is a dpctl capture receive at the sink.
type receiver struct {
	b       *bench
	file    string
	process *topology.Process
}

// receive starts to receive at the sink. The daemon's socket is at hand, as all namespaces share the files.
func (b *bench) receive(file string, args ...string) *receiver {
	b.t.Helper()
	d := b.daemons[0]
	p, err := b.net.Sink.Start(append([]string{d.DpctlPath(), "--socket", d.Socket, "capture", "receive",
		"--listen", b.net.SinkIP.String(), "-w", file}, args...)...)
	require.NoError(b.t, err)
	require.NoError(b.t, p.WaitOutput(b.ctx, p.Stderr, "receiving on"))
	return &receiver{b, file, p}
}

// stop ends the reception by a signal, and returns what it received.
func (r *receiver) stop(sig syscall.Signal) []received {
	r.b.t.Helper()
	result, err := r.process.Stop(r.b.ctx, sig)
	require.NoError(r.b.t, err)
	require.NoError(r.b.t, result.Err())
	frames := r.b.readReceived(r.file)
	require.Contains(r.b.t, result.Stderr, fmt.Sprintf("%d copies received", len(frames)))
	require.Contains(r.b.t, result.Stderr, " 0 dropped by the kernel")
	return frames
}

// received is a frame with the interface it is from.
type received struct {
	record.Frame
	from string
}

func (b *bench) readReceived(file string) []received {
	b.t.Helper()
	f, err := os.Open(file)
	require.NoError(b.t, err)
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	require.NoError(b.t, err)
	var frames []received
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames
		}
		require.NoError(b.t, err)
		i, err := r.Interface(info.InterfaceIndex)
		require.NoError(b.t, err)
		frames = append(frames, received{record.Frame{Time: info.Timestamp, Data: data}, i.Name})
	}
}

// of are the frames of one interface.
func of(frames []received, name string) []record.Frame {
	var own []record.Frame
	for _, f := range frames {
		if f.from == name {
			own = append(own, f.Frame)
		}
	}
	return own
}

// TestReceive has dpctl as the sink of both encapsulations: its file holds what each VM has sent, byte for byte, under the
// VM's own name, and Wireshark's tools like it.
func TestReceive(t *testing.T) {
	b := newBench(t, topology.DaemonConfig{}, 2)
	vm1, vm2, sink := b.vms[0], b.vms[1], b.net.SinkIP.String()
	b.reach(vm1, vm2.IPv4.String())
	for encap, port := range map[string]string{"udp": "3010", "vxlan": "4789"} {
		t.Run(encap, func(t *testing.T) {
			r := b.receive(b.net.Path(encap+".pcapng"), "--udp-dst-port="+port, "--encap="+encap)
			sent := map[string]*record.Recorder{
				vm1.ID: b.record(vm1.Namespace, "eth0", record.Out, ""), vm2.ID: b.record(vm2.Namespace, "eth0", record.Out, ""),
			}
			w := record.Window{Starting: time.Now()}
			b.dpctl("capture", "start", "--sink-node-ip="+sink, "--udp-src-port=3000", "--udp-dst-port="+port, "--encap="+encap,
				"--vf=vm-1,vm-2")
			w.Started = time.Now()
			b.startPing(vm1, vm2.IPv4.String(), time.Second, "-s", "1472").wait()
			b.startPing(vm2, vm1.IPv6.String(), time.Second).wait()
			w.Stopping = time.Now()
			b.dpctl("capture", "stop")
			w.Stopped = time.Now()

			originals := make(map[string][]record.Frame)
			for id, s := range sent {
				originals[id] = b.stopRecording(s)
			}
			frames := r.stop(syscall.SIGTERM)
			total := 0
			for id, want := range originals {
				require.NotEmpty(t, record.Between(want, w.Started, w.Stopping))
				require.NoError(t, record.Check(of(frames, id), want, w), id)
				total += len(of(frames, id))
			}
			require.Len(t, frames, total, "every frame is of a VM")
			b.checkFile(r.file, len(frames))
		})
	}
}

// checkFile lets Wireshark's tools read a file of vm-1 and vm-2.
func (b *bench) checkFile(file string, packets int) {
	b.t.Helper()
	malformed, err := record.Malformed(b.ctx, b.net.Lab, file)
	require.NoError(b.t, err)
	require.Empty(b.t, malformed)
	rows, err := record.Fields(b.ctx, b.net.Lab, file, `icmp && frame.interface_name == "vm-1"`, "ip.src", "frame.interface_description")
	require.NoError(b.t, err)
	require.NotEmpty(b.t, rows)
	for _, row := range rows {
		require.Equal(b.t, b.vms[0].IPv4.String(), row[0])
		require.Contains(b.t, row[1], "of node "+b.net.Hypervisors[0].UnderlayIP.String())
	}
	r, err := b.net.Run(b.ctx, "", "capinfos", "-M", file)
	require.NoError(b.t, err)
	require.NoError(b.t, r.Err())
	for _, line := range []string{
		`Number of packets: +` + strconv.Itoa(packets), `File timestamp precision: +nanoseconds`, `Number of interfaces in file: +3`,
		`Name = vm-2`, `Comment = capture default of vm-2 on port net_eswitch0_representor_vf1`,
	} {
		require.Regexp(b.t, regexp.MustCompile(line), r.Stdout)
	}
}

// TestReceiveLive pipes the copies into tshark, as they come; when tshark has seen enough and ends, so does dpctl.
func TestReceiveLive(t *testing.T) {
	b := newBench(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	d := b.daemons[0]
	p, err := b.net.Sink.Start("bash", "-c", `"$0" --socket "$1" capture receive --udp-dst-port=3010 -w - | tshark -nlr - -c 5`,
		d.DpctlPath(), d.Socket)
	require.NoError(t, err)
	require.NoError(t, p.WaitOutput(b.ctx, p.Stderr, "receiving on"))
	b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-1")...)
	b.startPing(vm1, vm2.IPv4.String(), time.Second).wait()
	result, err := p.Wait(b.ctx)
	require.NoError(t, err)
	require.NoError(t, result.Err())
	require.Equal(t, 5, bytes.Count([]byte(result.Stdout), []byte("\n")), result.Stdout)
	require.Contains(t, result.Stdout, vm1.IPv4.String())
}
