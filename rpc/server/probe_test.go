// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/server"
	"dpservice/rpc/server/servertest"
)

// A probe succeeds only while somebody serves the socket.
func TestProbe(t *testing.T) {
	l, err := server.Listen(filepath.Join(servertest.SocketDir(t), "s"))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, l.Probe(ctx))

	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.New(servertest.New().Services(), servertest.Config()).Serve(serving, l) }()
	require.NoError(t, l.Probe(t.Context()))
	stop()
	require.NoError(t, <-served)
	assert.Error(t, l.Probe(t.Context()))
}

// Bounds that are changed are those of clients that come.
func TestSetBounds(t *testing.T) {
	l, err := server.Listen(filepath.Join(servertest.SocketDir(t), "s"))
	require.NoError(t, err)
	s := server.New(servertest.New().Services(), servertest.Config())
	s.SetBounds(1, 1, 10*time.Millisecond, time.Minute)
	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(serving, l) }()
	conn, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(answer), "TIMED_OUT")
	require.NoError(t, conn.Close())
	stop()
	require.NoError(t, <-served)
}
