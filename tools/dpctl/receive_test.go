// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/receive"
	"dpservice/rpc/api"
	"dpservice/wire"
)

// reception is a running dpctl capture receive.
type reception struct {
	*exec.Cmd
	t    *testing.T
	out  *output
	port int
	done chan struct{} // closed when it exits
}

func startReceive(t *testing.T, args ...string) *reception {
	t.Helper()
	r := &reception{t: t, out: &output{}, port: freePort(t), done: make(chan struct{})}
	args = append([]string{"--socket=" + filepath.Join(t.TempDir(), "none"), "capture", "receive", "--listen=::1",
		fmt.Sprintf("--udp-dst-port=%d", r.port)}, args...)
	r.Cmd = exec.Command(binary, args...)
	r.Stdout, r.Stderr = r.out, r.out
	require.NoError(t, r.Start())
	go func() {
		_ = r.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		<-r.done
	})
	return r
}

func (r *reception) receives() {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return strings.Contains(r.out.String(), "receiving on") }, extcapWait,
		10*time.Millisecond, r.out)
}

// wait waits until the reception exits, and returns the exit code.
func (r *reception) wait() int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(5 * time.Second):
		require.Fail(r.t, "it does not end", r.out)
	}
	return r.ProcessState.ExitCode()
}

func (r *reception) send(data []byte) {
	r.t.Helper()
	c, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.IPv6loopback, Port: r.port})
	require.NoError(r.t, err)
	defer c.Close()
	_, err = c.Write(data)
	require.NoError(r.t, err)
}

// Each terminating signal ends a reception, and its file is complete. A signal that nohup ignores does not.
func TestReceiveEndsBySignal(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			r := startReceive(t, "-w", filepath.Join(t.TempDir(), "a"))
			r.receives()
			r.send([]byte("frame"))
			require.NoError(t, r.Process.Signal(signal))
			assert.Zero(t, r.wait())
			assert.Contains(t, r.out.String(), "1 copies received")
		})
	}
	cmd := exec.Command("nohup", binary, "--socket=/nonexistent", "capture", "receive", "--listen=::1", "--duration=1s",
		fmt.Sprintf("--udp-dst-port=%d", freePort(t)), "-w", filepath.Join(t.TempDir(), "a"))
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "receiving on") }, extcapWait,
		10*time.Millisecond, out)
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	require.NoError(t, cmd.Wait())
	assert.Contains(t, out.String(), "0 copies received")
}

// A reception does not wait at its end for a reader that has stopped reading its file or its messages.
func TestReceiveEndsUnread(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, 0} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			fifo := filepath.Join(t.TempDir(), "fifo")
			require.NoError(t, syscall.Mkfifo(fifo, 0o600))
			reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
			require.NoError(t, err)
			defer reader.Close()
			args := []string{"-w", fifo}
			if signal == 0 {
				args = append(args, "--duration=1s")
			}
			r := startReceive(t, args...)
			r.receives()
			for range 20 {
				r.send(bytes.Repeat([]byte{1}, 20_000))
			}
			time.Sleep(200 * time.Millisecond)
			if signal != 0 {
				require.NoError(t, r.Process.Signal(signal))
			}
			assert.Equal(t, exitRefused, r.wait())
			assert.Contains(t, r.out.String(), "was not read to its end")
		})
	}
}

// credentials returns the different sets of user IDs and capabilities of the threads of a process.
func credentials(t *testing.T, p *os.Process) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.Pid))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	found := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			for _, name := range []string{"Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "NoNewPrivs:"} {
				if strings.HasPrefix(line, name) {
					found[strings.Join(strings.Fields(line), " ")] = true
				}
			}
		}
	}
	return found
}

// No thread of a receiving process keeps a capability. The process becomes the user nobody if that user can write its
// files.
func TestReceiveGivesUpPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("who is not root has nothing to give up")
	}
	own := t.TempDir() // only root can write there
	open, err := os.MkdirTemp("", "dpctl-receive")
	require.NoError(t, err)
	defer os.RemoveAll(open)
	require.NoError(t, os.Chmod(open, 0o777))
	series := "--rotate-interval=300ms"
	for name, tt := range map[string]struct {
		args   []string
		uid    int
		series string
	}{
		"a file": {[]string{"-w", filepath.Join(own, "a")}, 65534, ""},
		"a series": {[]string{"-w", filepath.Join(open, "b"), series, "--files=2"}, 65534,
			filepath.Join(open, "b_*")},
		"a series of root's":   {[]string{"-w", filepath.Join(own, "c"), series}, 0, filepath.Join(own, "c_*")},
		"a user":               {[]string{"-w", filepath.Join(own, "d"), "--user=daemon"}, 1, ""},
		"root without his own": {[]string{"-w", filepath.Join(own, "e"), "--user=root"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := startReceive(t, tt.args...)
			r.receives()
			got := credentials(t, r.Process)
			want := map[string]bool{"NoNewPrivs: 1": true}
			for _, set := range []string{"Inh", "Prm", "Eff", "Amb"} {
				want["Cap"+set+": 0000000000000000"] = true
			}
			want[fmt.Sprintf("Uid: %[1]d %[1]d %[1]d %[1]d", tt.uid)] = true
			for line := range want {
				assert.Contains(t, got, line)
			}
			if tt.uid != 0 {
				assert.Len(t, got, 8, "threads that differ: %v", got)
				assert.NotContains(t, got, "Groups: 0")
			}
			if tt.series != "" { // wait for the next file of the series
				require.Eventually(t, func() bool {
					names, err := filepath.Glob(tt.series)
					return err == nil && len(names) > 1 && strings.Contains(names[len(names)-1], "_00003_")
				}, extcapWait, 10*time.Millisecond, r.out)
				names, err := filepath.Glob(tt.series)
				require.NoError(t, err)
				info, err := os.Stat(names[len(names)-1])
				require.NoError(t, err)
				assert.EqualValues(t, tt.uid, info.Sys().(*syscall.Stat_t).Uid)
				assert.Equal(t, os.FileMode(0o600), info.Mode())
			}
			r.send([]byte("frame"))
			require.NoError(t, r.Process.Signal(syscall.SIGTERM))
			assert.Zero(t, r.wait(), r.out)
			assert.Contains(t, r.out.String(), "1 copies received")
		})
	}
	r := startReceive(t, "-w", filepath.Join(own, "f"), series, "--user=nobody")
	assert.Equal(t, exitRefused, r.wait(), "nobody cannot write there")
	assert.Contains(t, r.out.String(), "permission denied")
}

// Only the given sources may send: copies from others are dropped.
func TestReceiveFromSources(t *testing.T) {
	for source, copies := range map[string]string{"::1": "1 copies", "fc00:1::/64,::/96": "1 copies",
		"fc00:1::1": "0 copies"} {
		r := startReceive(t, "-w", filepath.Join(t.TempDir(), "a"), "--source="+source)
		r.receives()
		r.send([]byte("frame"))
		require.NoError(t, r.Process.Signal(syscall.SIGTERM))
		assert.Zero(t, r.wait())
		assert.Contains(t, r.out.String(), copies, source)
	}
	for _, bad := range []string{"10.0.0.1", "x", "fe80::1%eth0", "::ffff:10.0.0.1", "fc00::/129", "10.0.0.0/8"} {
		_, err := parseSources([]string{bad})
		assert.ErrorContains(t, err, bad)
	}
	got, err := parseSources([]string{"fc00::1", "fc00:1::/64"})
	require.NoError(t, err)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("fc00::1/128"), netip.MustParsePrefix("fc00:1::/64")}, got)
}

// A buffer that is too large for the memory is rejected before anything is allocated.
func TestReceiveBuffer(t *testing.T) {
	r := startReceive(t, "-w", filepath.Join(t.TempDir(), "a"), "--buffer=1000000T")
	assert.Equal(t, exitRefused, r.wait())
	assert.Regexp(t, `a quarter of the \d+ MiB of memory that are available: at most \d+ MiB`, r.out.String())
}

// A name for what a VM sends also applies to what it receives, unless that has a name of its own. A name without a node
// applies to any node.
func TestNames(t *testing.T) {
	given, err := parseNames([]string{"7=web", "fc00:1::1/8=db", "9=x", "524297=y"})
	require.NoError(t, err)
	d := &directory{app: &app{socket: "/nonexistent"}, given: given}
	node, other := netip.MustParseAddr("fc00:1::1"), netip.MustParseAddr("fc00:1::2")
	for sender, want := range map[receive.Sender]receive.Description{
		{Node: node, Label: 7}:                 {Name: "web", AnyNode: true},
		{Node: other, Label: 7 + wire.LabelTX}: {Name: "web-tx", AnyNode: true},
		{Node: node, Label: 8}:                 {Name: "db"},
		{Node: node, Label: 8 + wire.LabelTX}:  {Name: "db-tx"},
		{Node: other, Label: 8}:                {},
		{Node: node, Label: 9}:                 {Name: "x", AnyNode: true},
		{Node: node, Label: 9 + wire.LabelTX}:  {Name: "y", AnyNode: true},
		{Node: node, Label: 10 + wire.LabelTX}: {},

		{Node: other, Label: wire.DropLabel(7, wire.DropSpoofed)}: {Name: "web-drop-spoofed", AnyNode: true},
		{Node: node, Label: wire.DropLabel(8, wire.DropNoRoute)}:  {Name: "db-drop-no_route"},
		{Node: node, Label: wire.DropLabel(10, wire.DropSpoofed)}: {},
	} {
		assert.Equal(t, want, d.describe(sender), sender)
	}
	vm1 := api.CaptureInterface{CaptureTarget: api.CaptureTarget{VF: "vm-1"}, Port: "vf0", Direction: "rx", Label: 7}
	drops := vm1
	drops.Direction, drops.Label = "drops", uint32(wire.DropLabel(10, 0))
	d.known = map[receive.Sender]point{
		{Node: node, Label: 7}:                       {"night", vm1},
		{Node: node, Label: wire.Label(drops.Label)}: {"night", drops},
	}
	assert.Equal(t, receive.Description{Name: "web", Comment: "capture night of vm-1 on port vf0, rx"},
		d.describe(receive.Sender{Node: node, Label: 7}))
	for _, reason := range []wire.DropReason{0, wire.DropTTL, 60} {
		assert.Equal(t, receive.Description{
			Name:    "vm-1-drop-" + reason.String(),
			Comment: "capture night of vm-1 on port vf0, dropped: " + reason.String(),
		}, d.describe(receive.Sender{Node: node, Label: wire.DropLabel(10, reason)}))
	}
}

// /dev/null is a character device like a terminal, but it is not a terminal.
func TestIsTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	assert.False(t, isTerminal(null))
	assert.False(t, isTerminal(&bytes.Buffer{}))
}
