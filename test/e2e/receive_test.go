// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
)

// receiver is a running `dpctl capture receive` at the sink.
type receiver struct {
	b       *lab
	file    string
	process *topology.Process
}

// receive starts to receive at the sink. dpctl can use the daemon's socket, as all namespaces share the file system.
func (b *lab) receive(file string, args ...string) *receiver {
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

// received is a frame and the interface that it is from.
type received struct {
	record.Frame
	from string
}

func (b *lab) readReceived(file string) []received {
	b.t.Helper()
	frames, err := readReceived(file)
	require.NoError(b.t, err)
	return frames
}

// readReceived reads a file. If the file still grows, it returns the complete frames and an error about the end.
func readReceived(file string) (frames []received, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		return nil, err
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		i, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			return frames, err
		}
		frames = append(frames, received{record.Frame{Time: info.Timestamp, Data: data}, i.Name})
	}
}

// of returns the frames of one interface.
func of(frames []received, name string) []record.Frame {
	var own []record.Frame
	for _, f := range frames {
		if f.from == name {
			own = append(own, f.Frame)
		}
	}
	return own
}

// TestReceive uses dpctl as the sink of both encapsulations. Its file has what each VM has sent, byte for byte, under
// the name of the VM, and Wireshark's tools can read it.
func TestReceive(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
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

// checkFile checks that Wireshark's tools can read a file with frames of vm-1 and vm-2.
func (b *lab) checkFile(file string, packets int) {
	b.t.Helper()
	malformed, err := record.Malformed(b.ctx, b.net.Lab, file)
	require.NoError(b.t, err)
	require.Empty(b.t, malformed)
	rows, err := record.Fields(b.ctx, b.net.Lab, file, `icmp && frame.interface_name == "vm-1"`, "ip.src",
		"frame.interface_description")
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
		`Number of packets: +` + strconv.Itoa(packets), `File timestamp precision: +nanoseconds`,
		`Number of interfaces in file: +3`,
		`Name = vm-2`, `Comment = capture default of vm-2 on port ` + regexp.QuoteMeta(b.net.NIC.VF(1)),
	} {
		require.Regexp(b.t, regexp.MustCompile(line), r.Stdout)
	}
}

// TestReceiveLive pipes the copies into tshark, as they come; when tshark has seen enough and ends, so does dpctl.
func TestReceiveLive(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	d := b.daemons[0]
	p, err := b.net.Sink.Start("bash", "-c",
		`"$0" --socket "$1" capture receive --udp-dst-port=3010 -w - | tshark -nlr - -c 5`,
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

// TestReceiveSeries writes a series of small files, of which the newest stay, and ends by Ctrl-C: each file is
// complete, and together they have the last frames without a gap.
func TestReceiveSeries(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	const files = 4
	sent := b.record(vm1.Namespace, "eth0", record.Out, "icmp")
	r := b.receive(b.net.Path("series.pcapng"), "--udp-dst-port=3010", "--rotate-size=5k", "--rotate-interval=1s",
		"--files="+strconv.Itoa(files))
	b.dpctl(b.startOn("series", 3010, "--vf=vm-1", "--filter=icmp")...)
	b.startPing(vm1, vm2.IPv4.String(), 2*time.Second).wait() // 5k are reached before the time is
	time.Sleep(time.Second)
	b.startPing(vm1, vm2.IPv4.String(), 100*time.Millisecond).wait() // and here it is the time
	b.dpctl("capture", "stop")
	result, err := r.process.Stop(b.ctx, syscall.SIGINT)
	require.NoError(t, err)
	require.NoError(t, result.Err())

	names, err := filepath.Glob(b.net.Path("series_*.pcapng"))
	require.NoError(t, err)
	require.Len(t, names, files)
	var frames []record.Frame
	for i, name := range names {
		require.Regexp(t, `series_\d{5}_\d{14}\.pcapng$`, name)
		part := b.readReceived(name)
		blocks := b.blocks(name)
		require.Equal(t, len(part), blocks.received)
		require.Zero(t, blocks.dropped)
		frames = append(frames, of(part, "vm-1")...)
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(6<<10))
		if i == files-1 {
			require.Less(t, info.Size(), int64(5<<10), "the last file began since the one before was old")
		}
	}
	originals := b.stopRecording(sent)
	require.Greater(t, len(originals), len(frames), "old files have gone")
	require.Empty(t, record.Missing(originals[len(originals)-len(frames):], frames))
}

// blocks returns the counters in a file, as tshark reads them.
type blocks struct{ received, dropped int }

func (b *lab) blocks(file string) (sum blocks) {
	b.t.Helper()
	r, err := b.net.Run(b.ctx, "", "tshark", "-r", file, "-X", "read_format:MIME Files Format", "-V")
	require.NoError(b.t, err)
	require.NoError(b.t, r.Err())
	add := func(to *int, name string) {
		all := regexp.MustCompile(name+` = (\d+)`).FindAllStringSubmatch(r.Stdout, -1)
		require.NotEmpty(b.t, all, "no %s in %s", name, r.Stdout)
		for _, m := range all {
			n, err := strconv.Atoi(m[1])
			require.NoError(b.t, err)
			*to += n
		}
	}
	add(&sum.received, "Number of Received Packets")
	add(&sum.dropped, "Number of Packets Dropped by OS")
	return sum
}

// TestReceiveSaysWhatIsLost stops the receiving program until the kernel has no room for copies. The number of written
// copies, plus the number that it reports as dropped on stderr and in the file, is what the NIC has sampled.
func TestReceiveSaysWhatIsLost(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	r := b.receive(b.net.Path("lossy.pcapng"), "--udp-dst-port=3010", "--buffer=512k")
	b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-1")...)
	require.NoError(t, r.process.Signal(syscall.SIGSTOP))
	b.startIperf(vm1, vm2, vm2.IPv4.String(), 5201, time.Second, "10M", "-u", "-l", "1200").wait()
	require.NoError(t, r.process.Signal(syscall.SIGCONT))
	b.dpctl("capture", "stop")
	sampled := int(b.ended("default").Packets)
	result, err := r.process.Stop(b.ctx, syscall.SIGTERM)
	require.NoError(t, err)
	require.NoError(t, result.Err())

	written := b.readReceived(r.file)
	lost := sampled - len(written)
	require.Positive(t, lost)
	require.NotEmpty(t, written)
	require.Contains(t, result.Stderr, fmt.Sprintf("%d copies received from 1 interface(s)", len(written)))
	require.Contains(t, result.Stderr, fmt.Sprintf("; %d dropped by the kernel", lost))
	require.Equal(t, blocks{len(written), lost}, b.blocks(r.file))
}

// TestReceiveWithoutADaemon has no socket at hand: names come from the command line, the counters are shown as they
// grow, and the time is up by itself.
func TestReceiveWithoutADaemon(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2 := b.vms[0], b.vms[1]
	b.reach(vm1, vm2.IPv4.String())
	b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-1,vm-2")...)
	labels := b.labels() // which stay
	b.dpctl("capture", "stop")
	file := b.net.Path("named.pcapng")
	p, err := b.net.Sink.Start(b.daemons[0].DpctlPath(), "--socket", b.net.Path("none"), "capture", "receive",
		"--udp-dst-port=3010",
		"-w", file, "--stats", "--duration=5s", fmt.Sprintf("--name=%d=web", labels["vm-1"]))
	require.NoError(t, err)
	require.NoError(t, p.WaitOutput(b.ctx, p.Stderr, "receiving on"))
	b.dpctl(captureStart(b.net.SinkIP.String(), "--vf=vm-1,vm-2")...)
	b.startPing(vm1, vm2.IPv4.String(), 2*time.Second).wait()
	b.dpctl("capture", "stop")
	result, err := p.Wait(b.ctx)
	require.NoError(t, err)
	require.NoError(t, result.Err())
	require.GreaterOrEqual(t, strings.Count(result.Stderr, " copies received from "), 3)
	frames := b.readReceived(file)
	require.NotEmpty(t, of(frames, "web"))
	other := of(frames, fmt.Sprintf("label-%d", labels["vm-2"]))
	require.NotEmpty(t, other)
	require.Len(t, frames, len(of(frames, "web"))+len(other))
	require.EqualValues(t, b.ended("default").Packets, len(frames))
}

// TestReceiveOnARouter receives on the router between hypervisor and sink, which sees all copies. dpctl accepts only
// copies to one of the router's own addresses, and of these only those from the given node. The sink still gets all of
// its copies.
func TestReceiveOnARouter(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	vm1, vm2, d := b.vms[0], b.vms[1], b.daemons[0]
	b.reach(vm1, vm2.IPv4.String())
	node := b.net.Hypervisors[0].UnderlayIP.String()
	onRouter := func(file, source string) *receiver {
		p, err := b.net.Router.Start(d.DpctlPath(), "--socket", d.Socket, "capture", "receive", "--udp-dst-port=3010", "-w",
			file,
			"--source="+source)
		require.NoError(t, err)
		require.NoError(t, p.WaitOutput(b.ctx, p.Stderr, "receiving on [::]:3010"))
		return &receiver{b, file, p}
	}
	for name, tt := range map[string]struct {
		sink, source      string
		atRouter, further bool
	}{
		"passing":     {b.net.SinkIP.String(), node, false, true},
		"its own":     {"fc00:99::ffff", node, true, false},
		"another's":   {"fc00:99::ffff", "fc00:77::/64", false, false},
		"its network": {"fc00:99::ffff", "fc00:77::/64," + node + "/64", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			router, sink := onRouter(b.net.Path(name+"-router"), tt.source), b.receive(b.net.Path(name+"-sink"),
				"--udp-dst-port=3010")
			b.dpctl(captureStart(tt.sink, "--vf=vm-1", "--filter=icmp")...)
			b.startPing(vm1, vm2.IPv4.String(), time.Second).wait()
			b.dpctl("capture", "stop")
			sampled := int(b.ended("default").Packets)
			require.NotZero(t, sampled)
			frames, further := router.stop(syscall.SIGHUP), sink.stop(syscall.SIGHUP)
			require.Equal(t, map[bool]int{true: sampled}[tt.atRouter], len(frames))
			require.Equal(t, map[bool]int{true: sampled}[tt.further], len(further))
			require.Len(t, of(frames, "vm-1"), len(frames), "though it is nobody by now, it knows the name")
		})
	}
}
