// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/http"
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
)

// framesIn is how many frames tshark finds in a file.
func framesIn(t *testing.T, name string) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "tshark", "-r", name, "-T", "fields", "-e", "frame.number").Output()
	require.NoError(t, err)
	return strings.Count(string(out), "\n")
}

// A flight recorder writes what it has when it is told: by a command, a webhook and a signal.
func TestFlightRecorder(t *testing.T) {
	dir := t.TempDir()
	socket, hook := filepath.Join(dir, "trigger.sock"), fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	r := startReceive(t, "-w", filepath.Join(dir, "fault.pcapng"), "--ring=60s,8M", "--trigger=unix:"+socket+","+hook)
	r.receives()
	files := func() []string {
		all, err := filepath.Glob(filepath.Join(dir, "fault_*.pcapng"))
		require.NoError(t, err)
		return all
	}
	frame := append(make([]byte, 12), 0x88, 0xb5, 'f', 'r', 'a', 'm', 'e')
	send := func(count int) {
		for range count {
			r.send(frame)
		}
		time.Sleep(200 * time.Millisecond) // until they are taken
	}
	send(3)
	require.Empty(t, files(), "nothing is written before somebody wants it")
	d := dpctl(t, "", "capture", "dump", "unix:"+socket)
	require.Zero(t, d.code, d.stderr)
	require.Len(t, files(), 1)
	require.Equal(t, "3 copies written to "+files()[0]+"\n", d.stdout)
	require.Equal(t, 3, framesIn(t, files()[0]))

	send(2)
	response, err := http.Post(hook+"/dump", "application/json", strings.NewReader(`{"status":"firing"}`))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Len(t, files(), 2)
	require.Equal(t, 2, framesIn(t, files()[1]))
	for _, request := range []struct{ method, path string }{{"GET", "/dump"}, {"POST", "/"}} {
		r, err := http.NewRequest(request.method, hook+request.path, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.GreaterOrEqual(t, response.StatusCode, http.StatusBadRequest)
	}

	send(1)
	require.NoError(t, r.Process.Signal(syscall.SIGUSR1))
	require.Eventually(t, func() bool { return strings.Contains(r.out.String(), "1 copies written to ") }, extcapWait,
		10*time.Millisecond, r.out)
	require.Len(t, files(), 3)

	send(1)
	require.NoError(t, r.Process.Signal(syscall.SIGTERM))
	require.Zero(t, r.wait())
	require.Len(t, files(), 3, "nobody wanted the last one")
	require.Contains(t, r.out.String(), "7 copies received")
	d = dpctl(t, "", "capture", "dump", "unix:"+socket)
	require.Equal(t, exitRefused, d.code)
	require.Contains(t, d.stderr, "is dpctl capture receive --ring running, with this --trigger?")
}

// A colleague attaches to a reception with socat and tshark, and does not disturb its file.
func TestReceiveServes(t *testing.T) {
	dir := t.TempDir()
	socket, file := filepath.Join(dir, "live.sock"), filepath.Join(dir, "all.pcapng")
	r := startReceive(t, "-w", file, "--serve=unix:"+socket)
	r.receives()
	frame := append(make([]byte, 12), 0x88, 0xb5, 'f', 'r', 'a', 'm', 'e')
	r.send(frame)
	time.Sleep(200 * time.Millisecond)
	var out output
	tshark := exec.Command("sh", "-c", `socat -u "UNIX-CONNECT:$0" STDOUT | tshark -l -n -r - -T fields -e frame.interface_name -e eth.type`,
		socket)
	tshark.Stdout = &out
	require.NoError(t, tshark.Start())
	sent := 1
	require.Eventually(t, func() bool {
		r.send(frame)
		sent++
		return strings.Count(out.String(), "0x88b5") >= 5
	}, 30*time.Second, 50*time.Millisecond, "%s", &out)
	require.NoError(t, r.Process.Signal(syscall.SIGTERM))
	require.Zero(t, r.wait())
	require.NoError(t, tshark.Wait())
	assert.Regexp(t, `(?m)^label-\d+\t0x88b5$`, out.String(), "the flow label is the kernel's")
	assert.Less(t, strings.Count(out.String(), "\n"), sent, "what came before is not for the newcomer")
	assert.Equal(t, sent, framesIn(t, file))
}

// A reception that cannot begin leaves no socket behind.
func TestReceiveDoesNotBegin(t *testing.T) {
	taken, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	require.NoError(t, err)
	defer taken.Close()
	socket := filepath.Join(t.TempDir(), "live.sock")
	r := dpctl(t, "", "capture", "receive", "--listen=::1",
		fmt.Sprintf("--udp-dst-port=%d", taken.LocalAddr().(*net.UDPAddr).Port), "-w", filepath.Join(t.TempDir(), "a"),
		"--serve=unix:"+socket)
	assert.Equal(t, exitRefused, r.code, r.stderr)
	assert.NoFileExists(t, socket)
}

func TestReceiveRefusesOddFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	for want, flags := range map[string]string{
		"--trigger needs --ring":                    "--trigger=unix:/x",
		"--serve: want unix:PATH":                   "--serve=/x",
		"--serve: listen unix":                      "--serve=unix:/nonexistent/x",
		"is neither a time, such as 60s, nor":       "--ring=60x",
		"does not go with --rotate-size":            "--ring=60s --rotate-size=1M",
		"is no loopback address with a port":        "--ring=60s --trigger=http://0.0.0.0:80",
		"want unix:PATH or http://127.0.0.1:PORT":   "--ring=60s --trigger=ftp://127.0.0.1:80",
		"more than a quarter of":                    "--ring=1000000G",
		"a series of files cannot be written to st": "--ring=60s -w -",
	} {
		args := append([]string{"capture", "receive", "--listen=::1", fmt.Sprintf("--udp-dst-port=%d", freePort(t)), "-w", file,
			"--duration=1ms"}, strings.Fields(flags)...)
		r := dpctl(t, "", args...)
		assert.NotZero(t, r.code, flags)
		assert.Contains(t, r.stderr, want)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestRingFlag(t *testing.T) {
	for text, want := range map[string]receive.Memory{
		"60s":    {Duration: time.Minute},
		"1G":     {Bytes: 1 << 30},
		"90s,8M": {Duration: 90 * time.Second, Bytes: 8 << 20},
	} {
		var f ringFlag
		require.NoError(t, f.Set(text))
		assert.Equal(t, want, receive.Memory(f))
		var again ringFlag
		require.NoError(t, again.Set(f.String()))
		assert.Equal(t, f, again)
	}
}
