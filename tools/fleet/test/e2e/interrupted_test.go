// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shows waits until a program has printed something.
func (f *fleet) shows(p *program, text string) {
	f.t.Helper()
	f.eventually("the program shows "+text, func() bool { return strings.Contains(p.out.String(), text) })
}

// Ctrl-C ends the capture, and fetches what there is, also of a collector that was killed in between. Without anybody
// to sum up the command would wait: a second Ctrl-C ends it.
func TestInterrupted(t *testing.T) {
	f := newFleet(t)
	collector := f.startCollector()
	vm1, vm2 := f.net.Hypervisors[0].Guests[0], f.net.Hypervisors[1].Guests[0]
	ping := func() {
		result, err := vm1.Run(f.ctx, "ping", "-n", "-c", "10", "-i", "0.1", vm2.IPv4.String())
		require.NoError(t, err)
		require.NoError(t, result.Err())
	}
	capture := func(name string) *program {
		return f.startBy(f.as("dpservice-captures"), "kubectl-dpcapture", "start", name, "--vni=100", "--filter=icmp",
			"--tenant=acme", "-o", f.net.Path("out"), "--from="+f.dir)
	}
	first := capture("first")
	f.shows(first, "Active: active on 2 of 2 nodes")
	ping()
	time.Sleep(time.Second) // the collector writes what it has
	collector.stop(syscall.SIGKILL)
	f.startCollector()
	f.eventually("the new collector receives", func() bool {
		files, err := filepath.Glob(filepath.Join(f.dir, "*", "collector-0_*.pcapng"))
		require.NoError(t, err)
		return len(files) == 2
	})
	time.Sleep(3 * time.Second) // agents learn its port, if it is another one
	ping()
	first.interrupt()
	require.Zero(t, first.cmd.ProcessState.ExitCode(), first.out)
	assert.Contains(t, first.out.String(), "ending the capture; Ctrl-C again")
	assert.Contains(t, first.out.String(), "40 packets of 2 interfaces")

	f.summary.stop(syscall.SIGKILL)
	second := capture("second")
	f.eventually("both nodes capture", func() bool { return len(f.sessions(0)) == 1 && len(f.sessions(1)) == 1 })
	require.NoError(t, second.cmd.Process.Signal(syscall.SIGINT))
	f.shows(second, "ending the capture; Ctrl-C again")
	f.eventually("it has ended on the nodes", func() bool { return len(f.sessions(0)) == 0 && len(f.sessions(1)) == 0 })
	second.interrupt()
	require.Equal(t, -1, second.cmd.ProcessState.ExitCode(), "it ended by the signal: %s", second.out)
}

// interrupt ends a program as Ctrl-C does.
func (p *program) interrupt() { p.stop(syscall.SIGINT) }
