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
	"syscall"

	"github.com/sourcegraph/jsonrpc2"

	"dpservice/rpc/api"
)

// ErrNoDaemon is a socket on which no daemon answers.
var ErrNoDaemon = errors.New("no daemon at the socket")

// Error is a daemon's refusal.
type Error struct {
	Code    api.Code
	Message string
	Data    api.ErrorData
}

func (e *Error) Error() string { return e.Message }

// Client is a connection to a daemon. It is safe for concurrent use.
type Client struct {
	conn *jsonrpc2.Conn
}

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
	return &Client{jsonrpc2.NewConn(context.Background(), jsonrpc2.NewPlainObjectStream(conn), noRequests{}, quiet)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Call calls a method and stores its result in what result points to. Params may be nil. What the daemon refuses is
// an *Error.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	err := c.conn.Call(ctx, method, params, result)
	var refused *jsonrpc2.Error
	switch {
	case errors.As(err, &refused):
		e := &Error{Code: api.Code(refused.Code), Message: refused.Message}
		if refused.Data != nil {
			// Data of another shape is another server's: code and message say enough.
			_ = json.Unmarshal(*refused.Data, &e.Data)
		}
		return e
	case errors.Is(err, jsonrpc2.ErrClosed):
		return fmt.Errorf("%s: the daemon closed the connection without an answer", method)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: the daemon did not answer in time", method)
	case err != nil:
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// Call calls a method over a connection of its own and returns the result.
func Call[R any](ctx context.Context, socket, method string, params any) (R, error) {
	var result R
	c, err := Dial(ctx, socket)
	if err != nil {
		return result, err
	}
	err = c.Call(ctx, method, params, &result)
	_ = c.Close() // the answer is here already
	return result, err
}

// noRequests ignores the requests of a daemon: it sends none.
type noRequests struct{}

func (noRequests) Handle(context.Context, *jsonrpc2.Conn, *jsonrpc2.Request) {}
