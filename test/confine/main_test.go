// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const service = `[Service]
# CapabilityBoundingSet=CAP_SYS_ADMIN
ExecStart=/bin/true --now
CapabilityBoundingSet=CAP_NET_RAW
NoNewPrivileges=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK
SystemCallFilter=@system-service
SystemCallFilter=~@privileged mincore
`

func write(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "x.service")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestReadUnit(t *testing.T) {
	u, err := readUnit(write(t, service))
	require.NoError(t, err)
	assert.Equal(t, []string{"/bin/true", "--now"}, u.command)
	assert.Equal(t, []string{"CAP_NET_RAW"}, u.capabilities)
	assert.Contains(t, u.syscalls, "openat")
	for _, refused := range []string{"mincore", "chown", "mount"} {
		assert.NotContains(t, u.syscalls, refused)
	}
	_, err = readUnit(write(t, "[Service]\nExecStart=/bin/true\n"))
	assert.ErrorContains(t, err, "all of the limits")
}

// TestMain lets the test's own program be what is confined.
func TestMain(m *testing.M) {
	if os.Getenv("CONFINE_PROBE") != "" {
		probe()
		return
	}
	os.Exit(m.Run())
}

// probe says what it may not do.
func probe() {
	report := func(what string, err error) {
		if err != nil {
			os.Stdout.WriteString(what + ": " + err.Error() + "\n")
		}
	}
	_, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	report("unix", err)
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	report("inet", err)
	_, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	report("write", err)
	memory, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_ANON|unix.MAP_PRIVATE)
	report("read", err)
	report("execute", unix.Mprotect(memory, unix.PROT_EXEC))
	_, err = unix.Mmap(-1, 0, 4096, unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	report("write and execute", err)
	report("mount", unix.Mount("none", "/mnt", "tmpfs", 0, ""))
	var caps [2]unix.CapUserData
	report("caps", unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]))
	if caps[0].Effective != 1<<unix.CAP_NET_RAW || caps[1].Effective != 0 {
		os.Stdout.WriteString("other capabilities\n")
	}
}

func TestConfined(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "confine")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.CommandContext(t.Context(), bin, write(t, service), os.Args[0])
	cmd.Env = append(os.Environ(), "CONFINE_PROBE=1")
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	const refused = ": operation not permitted\n"
	assert.Equal(t, "inet"+refused+"execute"+refused+"write and execute"+refused+"mount"+refused, string(out))
}
