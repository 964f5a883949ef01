// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// manager is systemd's end of the socket.
func manager(t *testing.T, watchdog time.Duration) *net.UnixConn {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", "")
	return conn
}

func receive(t *testing.T, conn *net.UnixConn) string {
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	require.NoError(t, err)
	return string(buf[:n])
}

// start runs a Supervisor; stop waits for its end.
func start(probe func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(probe, slog.New(slog.DiscardHandler)).Run(ctx)
	}()
	return func() { cancel(); <-done }
}

func TestReadyWatchdogAndEnd(t *testing.T) {
	conn := manager(t, 30*time.Millisecond)
	var calls atomic.Int32
	var broken atomic.Bool
	stop := start(func(context.Context) error {
		if calls.Add(1) < 3 || broken.Load() {
			return errors.New("worker 1 is silent")
		}
		return nil
	})
	assert.Equal(t, "STATUS=starting", receive(t, conn))
	assert.Equal(t, "READY=1\nSTATUS=running", receive(t, conn))
	assert.GreaterOrEqual(t, calls.Load(), int32(3), "ready only when the probe succeeds")
	for range 3 {
		assert.Equal(t, "WATCHDOG=1", receive(t, conn))
	}

	broken.Store(true)
	state := receive(t, conn)
	for state == "WATCHDOG=1" { // those that were on their way
		state = receive(t, conn)
	}
	for range 3 {
		assert.Equal(t, "STATUS=does not answer: worker 1 is silent", state, "not fed")
		state = receive(t, conn)
	}

	broken.Store(false)
	for state != "WATCHDOG=1\nSTATUS=running" {
		assert.Equal(t, "STATUS=does not answer: worker 1 is silent", state)
		state = receive(t, conn)
	}
	stop()
	for state != "STOPPING=1" {
		state = receive(t, conn)
	}
}

func TestEndsBeforeItIsReady(t *testing.T) {
	conn := manager(t, 0)
	stop := start(func(context.Context) error { return errors.New("not yet") })
	assert.Equal(t, "STATUS=starting", receive(t, conn))
	stop()
}

func TestNoWatchdog(t *testing.T) {
	conn := manager(t, 0)
	t.Setenv("WATCHDOG_USEC", "")
	stop := start(func(context.Context) error { return nil })
	assert.Equal(t, "STATUS=starting", receive(t, conn))
	assert.Equal(t, "READY=1\nSTATUS=running", receive(t, conn))
	stop()
	assert.Equal(t, "STOPPING=1", receive(t, conn))
}

func TestReloading(t *testing.T) {
	conn := manager(t, 0)
	New(nil, slog.New(slog.DiscardHandler)).Reloading(func() {
		assert.Regexp(t, `^RELOADING=1\nMONOTONIC_USEC=\d+\n?$`, receive(t, conn))
	})
	assert.Equal(t, "READY=1", receive(t, conn))
}

func TestNoSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	New(func(context.Context) error { panic("not asked") }, slog.Default()).Run(t.Context())
}
