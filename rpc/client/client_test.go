// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/rpc/server/servertest"
)

func TestCall(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	c, err := client.Dial(t.Context(), socket)
	require.NoError(t, err)
	defer c.Close()

	var info api.SystemInfoResult
	require.NoError(t, c.Call(t.Context(), api.MethodSystemInfo, nil, &info))
	assert.Equal(t, api.Version, info.APIVersion)

	err = c.Call(t.Context(), api.MethodInterfaceGet, api.InterfaceID{ID: "x"}, nil)
	assert.Equal(t, &client.Error{
		Code: api.CodeNotFound, Message: `no interface "x"`, Data: api.ErrorData{Reason: "NOT_FOUND", Interface: "x"},
	}, err)
}

func TestNoDaemon(t *testing.T) {
	dir := servertest.SocketDir(t)
	file, stale := filepath.Join(dir, "file"), filepath.Join(dir, "stale")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	for _, path := range []string{file, stale, filepath.Join(dir, "none")} {
		_, err := client.Dial(t.Context(), path)
		assert.ErrorIs(t, err, client.ErrNoDaemon)
		assert.EqualError(t, err, "no daemon at the socket "+path)
	}
}

// listen returns a socket on which serve is called for each client.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(servertest.SocketDir(t), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
		}
	}()
	return path
}

func TestDaemonThatDoesNotAnswer(t *testing.T) {
	socket := listen(t, func(conn net.Conn) { t.Cleanup(func() { _ = conn.Close() }) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.Call[api.Done](ctx, socket, "x", nil)
	assert.EqualError(t, err, "x: the daemon did not answer in time")
}

func TestDaemonThatHangsUp(t *testing.T) {
	socket := listen(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1000)) // so that the client has sent its call
		_ = conn.Close()
	})
	_, err := client.Call[api.Done](t.Context(), socket, "x", nil)
	assert.EqualError(t, err, "x: the daemon closed the connection without an answer")
}
