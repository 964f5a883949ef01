// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/server"
	"dpservice/rpc/server/servertest"
)

// The users of these tests.
var (
	root  = who{0, 0, nil}
	alice = who{4243, 4243, nil}
	bob   = who{4244, 4244, nil}
	carol = who{4245, 4245, nil}
)

// serveAll serves clients of all users.
func serveAll(t *testing.T, change func(*server.Config)) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	cfg := servertest.Config()
	change(&cfg)
	socket := servertest.StartWith(t, servertest.New().Services(), cfg)
	require.NoError(t, os.Chmod(filepath.Dir(socket), 0o755))
	require.NoError(t, os.Chmod(socket, 0o666))
	return socket
}

// connected connects as somebody, and has a first answer.
func connected(t *testing.T, socket string, w who) *net.UnixConn {
	t.Helper()
	conn := connectAs(t, socket, w)
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	request(t, conn)
	return conn
}

func request(t *testing.T, conn *net.UnixConn) {
	t.Helper()
	_, err := io.WriteString(conn, statusCall)
	require.NoError(t, err)
	got := make([]byte, len(statusReply)+1)
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, statusReply+"\n", string(got))
}

// refusal is what a client gets that sends nothing.
func refusal(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	data, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(data)
}

func connectionError(code, message, reason string) string {
	return `{"jsonrpc":"2.0","id":null,"error":{"code":` + code + `,"message":"` + message + `","data":{"reason":"` + reason + "\"}}}\n"
}

func TestTooManyClientsOfAUser(t *testing.T) {
	socket := serveAll(t, func(c *server.Config) { c.MaxClientsPerUser = 2 })
	first := connected(t, socket, alice)
	connected(t, socket, alice)
	want := connectionError("-32004", "too many clients: user 4243 has 2 connections already", "LIMIT_REACHED")
	assert.Equal(t, want, refusal(t, connectAs(t, socket, alice)))
	connected(t, socket, bob)
	for range 3 {
		connected(t, socket, root)
	}
	require.NoError(t, first.Close())
	assert.Eventually(t, func() bool {
		conn := connectAs(t, socket, alice)
		_, err := io.WriteString(conn, statusCall)
		n, _ := conn.Read(make([]byte, 1000))
		return err == nil && n == len(statusReply)+1
	}, 5*time.Second, 10*time.Millisecond, "there must be room again")
}

func TestPlacesAreKeptForRoot(t *testing.T) {
	socket := serveAll(t, func(c *server.Config) { c.MaxClients, c.MaxClientsPerUser = 2, 2 })
	connected(t, socket, alice)
	connected(t, socket, bob)
	want := connectionError("-32004",
		"too many clients: 2 are connected already, and the other places are for root and the daemon's user", "LIMIT_REACHED")
	assert.Equal(t, want, refusal(t, connectAs(t, socket, carol)))
	for range 8 {
		connected(t, socket, root)
	}
	assert.Equal(t, connectionError("-32004", "too many clients: 10 are connected already", "LIMIT_REACHED"),
		refusal(t, connectAs(t, socket, root)))
}

// TestIdleConnectionsGiveWay fills a user's places with connections that do nothing.
func TestIdleConnectionsGiveWay(t *testing.T) {
	socket := serveAll(t, func(c *server.Config) { c.MaxClientsPerUser = 3 })
	silent, halfSent, busy := connectAs(t, socket, alice), connectAs(t, socket, alice), connected(t, socket, alice)
	_, err := io.WriteString(halfSent, statusCall[:9])
	require.NoError(t, err)
	time.Sleep(1100 * time.Millisecond)
	request(t, busy)
	connected(t, socket, alice)
	want := connectionError("-32004", "another connection of this user has taken the place of this idle one",
		"LIMIT_REACHED")
	assert.Equal(t, want, refusal(t, silent))
	assert.Contains(t, refusal(t, connectAs(t, socket, alice)), "user 4243 has 3 connections",
		"none is idle for long enough")
	request(t, busy)
}

func TestIdleAndHalfSentRequestsEnd(t *testing.T) {
	socket := serveAll(t, func(c *server.Config) {
		c.IdleTimeout, c.RequestTimeout = 400*time.Millisecond,
			200*time.Millisecond
	})
	idle := connectionError("-32010", "timed out: no request within 400ms", "TIMED_OUT")
	half := connectionError("-32010", "timed out: the request was not complete within 200ms", "TIMED_OUT")
	for name, tt := range map[string]struct{ sent, want string }{
		"nothing":         {"", idle},
		"blanks":          {" \n \n", idle},
		"after a request": {statusCall, statusReply + "\n" + idle},
		"half":            {statusCall[:9], half},
		"half, no digit":  {"1", half},
		"half a batch":    {"[" + statusCall + ",", half},
		"after a half":    {statusCall + statusCall[:9], statusReply + "\n" + half},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connectAs(t, socket, root)
			_, err := io.WriteString(conn, tt.sent)
			require.NoError(t, err)
			assert.Equal(t, tt.want, refusal(t, conn))
		})
	}
	t.Run("slowly", func(t *testing.T) {
		t.Parallel()
		conn := connectAs(t, socket, root)
		for i := 0; i < len(statusCall); i++ {
			if _, err := io.WriteString(conn, statusCall[i:i+1]); err != nil {
				break // closed by now
			}
			time.Sleep(20 * time.Millisecond)
		}
		assert.Equal(t, half, refusal(t, conn))
	})
	t.Run("now and then", func(t *testing.T) {
		t.Parallel()
		conn := connected(t, socket, root)
		for range 4 {
			time.Sleep(200 * time.Millisecond)
			request(t, conn)
		}
	})
}
