// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/rpc/api"
	"dpservice/rpc/server/servertest"
)

const extcapWait = 10 * time.Second

// tshark returns a command that runs tshark with our extcap.
func tshark(t *testing.T, socket string, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	install := exec.CommandContext(t.Context(), "make", "-s", "-C", "../..", "install-extcap", "EXTCAP_DIR="+dir,
		"LUA_DIR="+t.TempDir(), "DPCTL="+binary)
	out, err := install.CombinedOutput()
	require.NoError(t, err, string(out))
	// As root, Wireshark looks only in the directory of the system. A bind mount replaces that directory, for this
	// process only.
	const folder = `tshark -G folders 2>/dev/null | sed -nE 's/^(Global )?Extcap path:[[:space:]]*//p'`
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "sh", "-c",
		`mount --bind "$0" "$(` + folder + `)" && exec tshark "$@"`, dir}, args...)...)
	cmd.Env = append(os.Environ(), "DPSERVICE_SOCKET="+socket, "HOME="+dir, "LC_ALL=C")
	cmd.WaitDelay = time.Second
	return cmd
}

// output collects what a program writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// sessions returns the sessions of the daemon.
func sessions(t *testing.T, socket string) []api.CaptureSession {
	t.Helper()
	var status api.CaptureStatusResult
	require.NoError(t, json.Unmarshal([]byte(dpctl(t, socket, "-o", "json", "capture", "status").stdout), &status))
	return status.Sessions
}

// extcapDaemon starts a fake daemon with an interface vm-1.
func extcapDaemon(t *testing.T) (*servertest.Fake, string) {
	t.Helper()
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	r := dpctl(t, socket, "interface", "create", "vm-1", "--device=x", "--vni=1", "--ipv4=10.0.0.1")
	require.Zero(t, r.code, r.stderr)
	return fake, socket
}

func TestExtcapInterfaces(t *testing.T) {
	_, socket := extcapDaemon(t)
	out, err := tshark(t, socket, "-D").CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Regexp(t, `\. dpservice-vf-vm-1 \(dpservice: vm-1\)`, string(out))
	assert.Regexp(t, `\. dpservice-pf0 \(dpservice: IPinIP from the wire at PF0\)`, string(out))

	out, err = tshark(t, filepath.Join(t.TempDir(), "none"), "-D").CombinedOutput()
	require.NoError(t, err, string(out))
	assert.NotContains(t, string(out), "dpservice-")

	out, err = tshark(t, socket, "-i", "dpservice-vf-vm-1", "-L").CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "EN10MB")
}

// The form has a line for each flag that it sets, and dpctl has that flag.
func TestExtcapForm(t *testing.T) {
	cmd, _, err := newRoot().Find([]string{"extcap"})
	require.NoError(t, err)
	for iface, want := range map[string]int{"dpservice-pf0": 8, "dpservice-vf-vm-1": 9} {
		r := dpctl(t, "", "extcap", "--extcap-config", "--extcap-interface="+iface)
		require.Zero(t, r.code, r.stderr)
		calls := 0
		for line := range strings.Lines(r.stdout) {
			if _, rest, ok := strings.Cut(line, "{call=--"); ok {
				flag, _, _ := strings.Cut(rest, "}")
				assert.NotNil(t, cmd.Flags().Lookup(flag), flag)
				calls++
			}
		}
		assert.Equal(t, want, calls, iface)
	}
}

// live is a tshark that captures through our extcap.
type live struct {
	*exec.Cmd
	out    *output
	frames chan struct{} // closing it stops the sender
}

// startLive starts a capture and sends frames to it until the test ends.
func startLive(t *testing.T, socket string, port int, args ...string) *live {
	t.Helper()
	const prefix = "extcap.dpservice_vf_vm_1."
	l := &live{Cmd: tshark(t, socket, append([]string{"-nl", "-i", "dpservice-vf-vm-1", "-o", prefix + "sinknodeip:::1",
		"-o", fmt.Sprintf(prefix+"udpdstport:%d", port)}, args...)...), out: &output{}, frames: make(chan struct{})}
	l.Stdout, l.Stderr = l.out, l.out
	require.NoError(t, l.Start())
	t.Cleanup(func() {
		close(l.frames)
		if l.ProcessState == nil {
			_ = l.Process.Kill()
			_ = l.Wait()
		}
	})
	require.Eventually(t, func() bool { return len(sessions(t, socket)) == 1 }, extcapWait, 20*time.Millisecond, l.out)
	go l.send(port)
	return l
}

func (l *live) send(port int) {
	c, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.IPv6loopback, Port: port})
	if err != nil {
		return
	}
	defer c.Close()
	frame := append(bytes.Repeat([]byte{0xff}, 12), 0x88, 0xb5, 'f', 'r', 'a', 'm', 'e')
	for {
		select {
		case <-l.frames:
			return
		case <-time.After(10 * time.Millisecond):
			_, _ = c.Write(frame)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	require.NoError(t, err)
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func noSessions(t *testing.T, socket string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(sessions(t, socket)) == 0 }, extcapWait, 20*time.Millisecond,
		"the session goes on without its reader")
}

// A capture in tshark starts and stops a capture in the NIC.
func TestExtcapCapture(t *testing.T) {
	fake, socket := extcapDaemon(t)
	port := freePort(t)
	l := startLive(t, socket, port, "-c", "5", "-o", "extcap.dpservice_vf_vm_1.direction:both",
		"-o", "extcap.dpservice_vf_vm_1.drops:true")
	require.NoError(t, l.Wait(), l.out)
	assert.Equal(t, 5, strings.Count(l.out.String(), "0x88b5"), l.out)
	noSessions(t, socket)
	assert.Equal(t, "::1", fake.Last().Capture.Sink.String())
	assert.EqualValues(t, port, fake.Last().Capture.UDPDstPort)
	assert.Equal(t, "vm-1", fake.Last().Capture.Targets[0].VF)
	assert.Equal(t, spec.Both, fake.Last().Capture.Direction)
	assert.True(t, fake.Last().Capture.Drops)
}

// The session ends when tshark ends, for any reason.
func TestExtcapEnds(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			_, socket := extcapDaemon(t)
			l := startLive(t, socket, freePort(t))
			require.NoError(t, l.Process.Signal(signal))
			_ = l.Wait()
			noSessions(t, socket)
		})
	}
}

// A session that somebody else stops ends the capture.
func TestExtcapSessionEnds(t *testing.T) {
	_, socket := extcapDaemon(t)
	l := startLive(t, socket, freePort(t))
	require.Zero(t, dpctl(t, socket, "capture", "stop").code)
	require.NoError(t, l.Wait(), l.out)
}

// fifoOf returns a FIFO that is open for reading but is not read.
func fifoOf(t *testing.T) string {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close() })
	return fifo
}

// startExtcap starts an extcap as Wireshark does, and waits for its session.
func startExtcap(t *testing.T, socket, iface, fifo string, want int) (*exec.Cmd, api.CaptureSession) {
	t.Helper()
	cmd := exec.Command(binary, "extcap", "--capture", "--extcap-interface", iface, "--fifo", fifo, "--sink-node-ip=::1",
		"--udp-dst-port=0")
	cmd.Env = append(os.Environ(), "DPSERVICE_SOCKET="+socket)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var all []api.CaptureSession
	require.Eventually(t, func() bool {
		all = sessions(t, socket)
		return len(all) == want
	}, extcapWait, 20*time.Millisecond)
	return cmd, all[want-1]
}

// A second live capture, or one while dpctl capture receive runs, uses the next free port, and the NIC sends its copies
// there.
func TestExtcapFreePorts(t *testing.T) {
	_, socket := extcapDaemon(t)
	first, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback, Port: liveDstPort})
	if err == nil { // otherwise another process has the port
		defer first.Close()
	}
	one, begun := startExtcap(t, socket, "dpservice-vf-vm-1", fifoOf(t), 1)
	taken := begun.UDPDstPort
	assert.Greater(t, taken, uint16(liveDstPort))
	assert.Contains(t, credentials(t, one.Process), "CapPrm: 0000000000000000", "it has no more to open")
	require.NoError(t, one.Process.Signal(syscall.SIGTERM))
	require.NoError(t, one.Wait())
	noSessions(t, socket)

	held, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback, Port: int(taken)})
	require.NoError(t, err)
	defer held.Close()
	two, session := startExtcap(t, socket, "dpservice-pf0", fifoOf(t), 1)
	assert.Greater(t, session.UDPDstPort, taken)
	require.NoError(t, two.Process.Signal(syscall.SIGTERM))
	require.NoError(t, two.Wait())

	// If a port was requested, only that port is tried.
	r := dpctl(t, socket, "extcap", "--capture", "--extcap-interface=dpservice-pf0", "--fifo", fifoOf(t),
		"--sink-node-ip=::1",
		fmt.Sprintf("--udp-dst-port=%d", taken))
	assert.Equal(t, exitRefused, r.code)
	assert.Contains(t, r.stderr, "address already in use")
}

// A session ends even if the FIFO is not read: when the extcap receives a signal, and when nobody opens the FIFO.
func TestExtcapEndsUnread(t *testing.T) {
	fake, socket := extcapDaemon(t)
	cmd, _ := startExtcap(t, socket, "dpservice-vf-vm-1", fifoOf(t), 1)
	to := &net.UDPAddr{IP: net.IPv6loopback, Port: int(fake.Last().Capture.UDPDstPort)}
	c, err := net.DialUDP("udp6", nil, to)
	require.NoError(t, err)
	defer c.Close()
	for range 20 {
		_, err := c.Write(make([]byte, 20_000))
		require.NoError(t, err)
	}
	time.Sleep(200 * time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	noSessions(t, socket)
	require.Error(t, cmd.Wait(), "the end of the output is lost")

	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	r := dpctl(t, socket, "extcap", "--capture", "--extcap-interface=dpservice-vf-vm-1", "--fifo", fifo,
		"--sink-node-ip=::1", "--duration=200ms")
	assert.Zero(t, r.code, r.stderr)
	assert.Empty(t, sessions(t, socket))
	r = dpctl(t, socket, "extcap", "--capture", "--extcap-interface=dpservice-vf-vm-1", "--fifo", fifo+"2",
		"--sink-node-ip=::1")
	assert.Equal(t, exitRefused, r.code)
}

// Wireshark treats a capture filter as valid if the extcap prints nothing about it.
func TestExtcapChecksFilters(t *testing.T) {
	for _, tt := range []struct{ iface, filter, want string }{
		{"dpservice-vf-vm-1", "tcp port 443 and not host 10.0.0.9", ""},
		{"dpservice-vf-vm-1", "ether host 02:00:00:00:00:01", ""},
		{"dpservice-pf0", "ether host 02:00:00:00:00:01", "no Ethernet header"},
		{"dpservice-vf-vm-1", "nonsense", "want"},
		{"dpservice-vf-vm-1", "tcp and", "want a primitive"},
		{"dpservice-vf-vm-1", "less 100", "length"},
	} {
		r := dpctl(t, "", "extcap", "--extcap-interface", tt.iface, "--extcap-capture-filter", tt.filter)
		assert.Zero(t, r.code)
		if tt.want == "" {
			assert.Empty(t, r.stdout, tt.filter)
			continue
		}
		assert.Contains(t, r.stdout, tt.want, tt.filter)
		assert.Equal(t, 1, strings.Count(r.stdout, "\n"), "Wireshark shows the first line")
	}
}

func TestExtcapRefused(t *testing.T) {
	fake := servertest.New()
	fake.Err = fault.New(fault.NotFound, "vm-1", "no such interface")
	socket := servertest.Start(t, fake.Services())
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
	require.NoError(t, err)
	defer reader.Close()
	live := func(args ...string) result {
		return dpctl(t, socket, append([]string{"extcap", "--capture", "--fifo", fifo, "--sink-node-ip=::1",
			fmt.Sprintf("--udp-dst-port=%d", freePort(t))}, args...)...)
	}
	for _, r := range []result{live("--extcap-interface=dpservice-vf-vm-1"), live("--extcap-interface=eth0")} {
		assert.Equal(t, exitRefused, r.code)
		assert.Contains(t, r.stderr, "no")
	}
}

// For any arguments from any version of Wireshark, an extcap that does not capture prints an answer or an error.
func FuzzExtcapArguments(f *testing.F) {
	f.Add("--extcap-interfaces\x00--extcap-version=4.2")
	f.Add("--extcap-config\x00--extcap-interface\x00dpservice-vf-vm-1\x00--extcap-reload-option\x00filter")
	f.Add("--extcap-capture-filter\x00tcp port 443\x00--extcap-interface=dpservice-pf0\x00--udp-dst-port=70000")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\x00")
		for _, arg := range args {
			if strings.HasPrefix(arg, "--capture") || strings.HasPrefix(arg, "--socket") {
				return // these have effects outside of this process
			}
		}
		var out bytes.Buffer
		root := newRoot()
		root.SetArgs(append([]string{"extcap"}, args...))
		root.SetOut(&out)
		root.SetErr(&out)
		if err := root.ExecuteContext(t.Context()); err != nil {
			assert.NotEmpty(t, err.Error())
		}
	})
}

// The name of an interface is either a listed one, or is part of the error.
func FuzzExtcapTarget(f *testing.F) {
	f.Add("dpservice-vf-vm-1")
	f.Add("dpservice-pf0")
	f.Add("dpservice-pf-1")
	f.Fuzz(func(t *testing.T, name string) {
		target, err := extcapTarget(name)
		switch {
		case err != nil:
			assert.Contains(t, err.Error(), fmt.Sprintf("%q", name))
		case target.PF != nil:
			assert.Contains(t, name, extcapPF)
		default:
			assert.Equal(t, name, extcapVF+target.VF)
		}
	})
}

// A name for a label is used unchanged, or rejected.
func FuzzNames(f *testing.F) {
	f.Add("7=vm-1")
	f.Add("fc00:1::1/7=vm-1")
	f.Add("/=")
	f.Add("10.0.0.1/7=vm-1")
	f.Fuzz(func(t *testing.T, text string) {
		names, err := parseNames([]string{text})
		if err != nil {
			return
		}
		require.Len(t, names, 1)
		for sender, name := range names {
			assert.NotEmpty(t, name)
			assert.True(t, strings.HasSuffix(text, "="+name))
			assert.NotZero(t, sender.Label)
			assert.True(t, !sender.Node.IsValid() || sender.Node.Is6())
		}
	})
}
