// SPDX-License-Identifier: Apache-2.0

package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sourcegraph/jsonrpc2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/stream"
)

// memory is a connection whose client has sent everything, and reads everything.
type memory struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error)       { return m.in.Read(p) }
func (m *memory) Write(p []byte) (int, error)      { return m.out.Write(p) }
func (m *memory) Close() error                     { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// echo answers every request with its own params.
type echo struct{ *stream.Stream }

func (e echo) Handle(_ context.Context, _ *jsonrpc2.Conn, req *jsonrpc2.Request) {
	if req.Notif {
		return
	}
	result := json.RawMessage(`"none"`)
	if req.Params != nil {
		result = *req.Params
	}
	_ = e.Answer(result) // fails if the client does not read, which is the stream's business
}

// serve answers what a client has sent.
func serve(conn net.Conn, limits stream.Limits) {
	quiet := jsonrpc2.SetLogger(log.New(io.Discard, "", 0))
	s := stream.New(conn, limits)
	<-jsonrpc2.NewConn(context.Background(), s, echo{s}, quiet).DisconnectNotify()
}

func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `[]`, `[1]`, `[[]]`, `1e9`, `"`, `{"`, `}`, "{\n", "\x00", `[{"jsonrpc":"2.0","method":"a"}]`,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":[1,2]}`,
		`{"jsonrpc":"2.0","id":-1.5e3,"method":"a","params":{"b":null}}{"jsonrpc":"2.0","id":"x","method":"a"}`,
		`[{"jsonrpc":"2.0","id":null,"method":"a"},{"jsonrpc":"2.0","id":1,"method":"\u0000"}]`,
		`{"jsonrpc":"2.0","id":1,"method":"a","params":1e999}`, `{"jsonrpc":"2.0","ID":1,"Method":"a"}`,
		strings.Repeat("[", 20000), `{"jsonrpc":"2.0","id":1,"method":"` + "\xff" + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > stream.DefaultLimits.Message/2 {
			t.Skip("may be too large, which ends the connection")
		}
		// No JSON text goes on over a NUL, so whatever comes before it, the stream reads requests again after it.
		const last = "\n\x00\n" + `{"jsonrpc":"2.0","id":"last","method":"echo","params":[1]}`
		conn := &memory{in: io.MultiReader(bytes.NewReader(data), strings.NewReader(last))}
		serve(conn, stream.DefaultLimits)

		lines := strings.SplitAfter(conn.out.String(), "\n")
		require.GreaterOrEqual(t, len(lines), 3, "an error, the last answer, and nothing behind it")
		assert.Equal(t, `{"jsonrpc":"2.0","id":"last","result":[1]}`+"\n", lines[len(lines)-2])
		assert.Empty(t, lines[len(lines)-1])
		for _, line := range lines[:len(lines)-1] {
			checkAnswer(t, line)
		}
	})
}

// checkAnswer checks that a line is a response, or an array of some.
func checkAnswer(t *testing.T, line string) {
	t.Helper()
	if line[0] != '[' {
		line = "[" + line + "]"
	}
	var responses []map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(line), &responses))
	require.NotEmpty(t, responses)
	for _, r := range responses {
		assert.Equal(t, `"2.0"`, string(r["jsonrpc"]))
		assert.Contains(t, r, "id")
		assert.Len(t, r, 3)
		if e, ok := r["error"]; ok {
			assert.Contains(t, string(e), `"code":-32`)
		} else {
			assert.Contains(t, r, "result")
		}
	}
}

func TestWriteDeadline(t *testing.T) {
	client, server := net.Pipe() // without buffers
	t.Cleanup(func() { _ = client.Close() })
	limits := stream.DefaultLimits
	limits.Write = 50 * time.Millisecond
	done := make(chan struct{})
	go func() {
		serve(server, limits)
		close(done)
	}()
	_, err := io.WriteString(client, `{"jsonrpc":"2.0","id":1,"method":"a"}`)
	require.NoError(t, err)
	select {
	case <-done: // though the client has not read
	case <-time.After(10 * time.Second):
		t.Fatal("a client that does not read holds the stream")
	}
}

func TestResyncDeadline(t *testing.T) {
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	limits := stream.DefaultLimits
	limits.Resync = 50 * time.Millisecond
	go serve(server, limits)
	_, err := io.WriteString(client, `{bad`)
	require.NoError(t, err)
	require.NoError(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
	answer, err := io.ReadAll(client)
	require.NoError(t, err, "the stream must close")
	assert.Contains(t, string(answer), "-32700")
}

func TestShutdownEndsAnIdleStream(t *testing.T) {
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	s := stream.New(server, stream.DefaultLimits)
	s.Shutdown()
	var v any
	assert.ErrorIs(t, s.ReadObject(&v), io.EOF)
}
