// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
)

// dotSize is more than fits into a socket's buffer.
const dotSize = 1 << 20

// slow is a Graph whose DOT takes until it is released.
type slow struct {
	Graph
	entered  chan struct{}
	released chan struct{}
}

func (s slow) DOT() string {
	s.entered <- struct{}{}
	<-s.released
	return strings.Repeat("x", dotSize)
}

type instant struct{ System }

func (instant) Info() api.SystemInfoResult { return api.SystemInfoResult{Version: "1"} }

const (
	infoCall = `{"jsonrpc":"2.0","id":1,"method":"system.info"}`
	dotCall  = `{"jsonrpc":"2.0","id":1,"method":"graph.dot"}`
)

type fixture struct {
	path   string
	graph  slow
	cancel context.CancelFunc
	served chan error
}

func serveSlow(t *testing.T, change func(*Server)) fixture {
	dir, err := os.MkdirTemp("", "rpc")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := fixture{
		path:   filepath.Join(dir, "s"),
		graph:  slow{entered: make(chan struct{}), released: make(chan struct{})},
		served: make(chan error, 1),
	}
	l, err := Listen(f.path)
	require.NoError(t, err)
	s := New(Services{System: instant{}, Graph: f.graph})
	change(s)
	ctx, cancel := context.WithCancel(t.Context())
	f.cancel = cancel
	go func() { f.served <- s.Serve(ctx, l) }()
	return f
}

func (f fixture) dial(t *testing.T) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", f.path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn.(*net.UnixConn)
}

func send(t *testing.T, conn net.Conn, what string) {
	t.Helper()
	_, err := io.WriteString(conn, what)
	require.NoError(t, err)
}

func answers(t *testing.T, conn *net.UnixConn, what string) string {
	t.Helper()
	send(t, conn, what)
	require.NoError(t, conn.CloseWrite())
	data, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(data)
}

func TestClientsDoNotWaitForEachOther(t *testing.T) {
	f := serveSlow(t, func(s *Server) { s.limits.Write = 2 * time.Second })
	busy, stalled, halfSent := f.dial(t), f.dial(t), f.dial(t)
	send(t, stalled, dotCall) // and will not read its answer
	<-f.graph.entered
	f.graph.released <- struct{}{}
	send(t, busy, dotCall)
	<-f.graph.entered
	send(t, halfSent, infoCall[:10])

	assert.Contains(t, answers(t, f.dial(t), infoCall), `"version":"1"`)

	f.cancel()
	assert.NoFileExists(t, waitGone(f.path))
	f.graph.released <- struct{}{}
	data, err := io.ReadAll(busy)
	require.NoError(t, err)
	assert.Greater(t, len(data), dotSize, "a request in flight must be answered when the server ends")
	assert.NoError(t, <-f.served)
}

// TestTheEndDoesNotWaitForAStalledClient has clients that do not read an answer when the server ends, or not the one that it
// gives then.
func TestTheEndDoesNotWaitForAStalledClient(t *testing.T) {
	f := serveSlow(t, func(*Server) {})
	stalled, late := f.dial(t), f.dial(t)
	send(t, stalled, dotCall)
	<-f.graph.entered
	f.graph.released <- struct{}{}
	send(t, late, dotCall)
	<-f.graph.entered

	begun := time.Now()
	f.cancel()
	assert.NoFileExists(t, waitGone(f.path))
	f.graph.released <- struct{}{}
	assert.NoError(t, <-f.served)
	assert.Less(t, time.Since(begun), grace)
}

// waitGone returns path when it is gone, or after a second.
func waitGone(path string) string {
	for range 100 {
		if _, err := os.Lstat(path); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return path
}

func TestTooManyClients(t *testing.T) {
	f := serveSlow(t, func(s *Server) { s.maxClients = 2 })
	first, second := f.dial(t), f.dial(t)
	for _, conn := range []net.Conn{first, second} { // until both are served
		send(t, conn, infoCall)
		_, err := conn.Read(make([]byte, 1000))
		require.NoError(t, err)
	}
	refused, err := io.ReadAll(f.dial(t))
	require.NoError(t, err)
	assert.Equal(t, `{"jsonrpc":"2.0","id":null,"error":{"code":-32004,"message":"too many clients: 2 are connected already",`+
		`"data":{"reason":"LIMIT_REACHED"}}}`+"\n", string(refused))

	require.NoError(t, first.Close())
	assert.Eventually(t, func() bool {
		conn := f.dial(t)
		defer conn.Close()
		_, _ = io.WriteString(conn, infoCall) // fails if refused
		data := make([]byte, 1000)
		n, _ := conn.Read(data)
		return strings.Contains(string(data[:n]), `"version":"1"`)
	}, 5*time.Second, 10*time.Millisecond, "there must be room again")
	f.cancel()
	assert.NoError(t, <-f.served)
}
