// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"io"
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

	info, err = client.Call(t.Context(), socket, api.MethodSystemInfo, api.None{})
	require.NoError(t, err)
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
	err := client.CallAny(ctx, socket, api.RawMethod("x"), nil, nil)
	assert.EqualError(t, err, "x: the daemon did not answer in time")
}

func TestDaemonThatHangsUp(t *testing.T) {
	socket := listen(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1000)) // so that the client has sent its call
		_ = conn.Close()
	})
	err := client.CallAny(t.Context(), socket, api.RawMethod("x"), nil, nil)
	assert.EqualError(t, err, "x: the daemon closed the connection without an answer")
}

// TestRefusals has daemons that refuse or end the connection at different times: the caller gets to know why.
func TestRefusals(t *testing.T) {
	const refusal = `{"jsonrpc":"2.0","id":null,"error":{"code":-32004,"message":"too many","data":{"reason":"LIMIT_REACHED"}}}`
	want := &client.Error{Code: api.CodeLimitReached, Message: "too many", Data: api.ErrorData{Reason: "LIMIT_REACHED"}}
	refuse := func(conn net.Conn) {
		_, _ = io.WriteString(conn, refusal)
		_ = conn.Close()
	}
	for name, serve := range map[string]func(net.Conn){
		"at once": refuse,
		"later":   func(conn net.Conn) { time.Sleep(50 * time.Millisecond); refuse(conn) },
		"after the request": func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1000))
			refuse(conn)
		},
		"in place of the second answer": func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1000))
			_, _ = io.WriteString(conn, `{"jsonrpc":"2.0","id":0,"result":{}}`)
			refuse(conn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := client.Dial(t.Context(), listen(t, serve))
			require.NoError(t, err)
			defer c.Close()
			if name == "in place of the second answer" {
				require.NoError(t, c.Call(t.Context(), api.MethodSystemInfo, nil, nil))
			}
			time.Sleep(10 * time.Millisecond) // the first one is closed by now
			assert.Equal(t, want, c.Call(t.Context(), api.MethodSystemInfo, nil, nil))
			assert.Equal(t, want, c.Call(t.Context(), api.MethodSystemInfo, nil, nil), "however often one asks")
		})
	}
}
