// SPDX-License-Identifier: Apache-2.0

// Package client calls the JSON-RPC methods of a dpservice.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sourcegraph/jsonrpc2"

	"dpservice/rpc/api"
)

// ErrNoDaemon means that no daemon listens at the socket.
var ErrNoDaemon = errors.New("no daemon at the socket")

// Error is an error that the daemon has answered with.
type Error struct {
	Code    api.Code
	Message string
	Data    api.ErrorData
}

func (e *Error) Error() string { return e.Message }

// Client is a connection to a daemon. It is safe for concurrent use.
type Client struct {
	conn *jsonrpc2.Conn
	in   *refusals
}

// endWait is how long to wait for the reason why a connection can no longer be written to.
const endWait = time.Second

// Dial connects to the daemon at a unix socket. It is ErrNoDaemon if there is none.
func Dial(ctx context.Context, socket string) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTSOCK) {
		return nil, fmt.Errorf("%w %s", ErrNoDaemon, socket)
	}
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", socket, err)
	}
	quiet := jsonrpc2.SetLogger(log.New(io.Discard, "", 0)) // what matters comes back from Call
	in := &refusals{ObjectStream: jsonrpc2.NewPlainObjectStream(conn)}
	return &Client{jsonrpc2.NewConn(context.Background(), in, noRequests{}, quiet), in}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Call calls a method and stores its result in what result points to. Params and result may be nil. A refusal by the
// daemon is an *Error.
func (c *Client) Call(ctx context.Context, m api.AnyMethod, params, result any) error {
	method := m.Name()
	err := c.conn.Call(ctx, method, params, result)
	var refused *jsonrpc2.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return toError(refused)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: the daemon did not answer in time", method)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", method, err)
	}
	if refused := c.refusal(ctx); refused != nil {
		return refused
	}
	if errors.Is(err, jsonrpc2.ErrClosed) {
		return fmt.Errorf("%s: the daemon closed the connection without an answer", method)
	}
	return fmt.Errorf("%s: %w", method, err)
}

// refusal returns why the daemon has closed the connection; nil if it did not say.
func (c *Client) refusal(ctx context.Context) error {
	select {
	case <-c.conn.DisconnectNotify():
	case <-ctx.Done():
	case <-time.After(endWait):
	}
	if refused := c.in.refused.Load(); refused != nil {
		return toError(refused)
	}
	return nil
}

func toError(refused *jsonrpc2.Error) *Error {
	e := &Error{Code: api.Code(refused.Code), Message: refused.Message}
	if refused.Data != nil {
		// Data of another shape is another server's: code and message say enough.
		_ = json.Unmarshal(*refused.Data, &e.Data)
	}
	return e
}

// refusals is a stream that keeps an error that answers no request: with it the daemon refuses or ends the connection.
// jsonrpc2 would take it for the answer to its first request, or lose it.
type refusals struct {
	jsonrpc2.ObjectStream
	refused atomic.Pointer[jsonrpc2.Error]
}

// ReadObject implements jsonrpc2.ObjectStream.
func (r *refusals) ReadObject(v any) error {
	var raw json.RawMessage
	if err := r.ObjectStream.ReadObject(&raw); err != nil {
		return err
	}
	var message struct {
		ID    json.RawMessage `json:"id"`
		Error *jsonrpc2.Error `json:"error"`
	}
	if err := json.Unmarshal(raw, &message); err == nil && message.Error != nil && string(message.ID) == "null" {
		r.refused.Store(message.Error)
		return io.EOF
	}
	return json.Unmarshal(raw, v)
}

// Call calls a method over a connection of its own and returns the result. A refusal by the daemon is an *Error.
func Call[P, R any](ctx context.Context, socket string, m api.Method[P, R], params P) (result R, err error) {
	err = CallAny(ctx, socket, m, params, &result)
	return result, err
}

// CallAny calls a method of any types over a connection of its own, and stores its result in what result points to.
// Params and result may be nil.
func CallAny(ctx context.Context, socket string, m api.AnyMethod, params, result any) error {
	c, err := Dial(ctx, socket)
	if err != nil {
		return err
	}
	err = c.Call(ctx, m, params, result)
	_ = c.Close() // the answer is here already
	return err
}

// noRequests ignores the requests of a daemon: it sends none.
type noRequests struct{}

func (noRequests) Handle(context.Context, *jsonrpc2.Conn, *jsonrpc2.Request) {}
