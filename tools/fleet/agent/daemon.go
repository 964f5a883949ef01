// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	"dpservice/rpc/api"
	"dpservice/rpc/client"
)

// Daemon is the node's dpservice. A refusal is a *client.Error.
type Daemon interface {
	// UnderlayIP returns the source address of the node's copies.
	UnderlayIP(ctx context.Context) (string, error)
	Interfaces(ctx context.Context) ([]api.Interface, error)
	Captures(ctx context.Context) (api.CaptureStatusResult, error)
	Start(ctx context.Context, p api.CaptureStartParams) (api.CaptureSession, error)
	Stop(ctx context.Context, name string) error
}

// callTimeout is how long the daemon may take to answer. A start on a busy NIC takes seconds.
const callTimeout = 20 * time.Second

// Socket is the Daemon at a unix socket. Each call has a connection of its own, so that a restart of the daemon needs
// no care.
type Socket string

// UnderlayIP implements Daemon.
func (s Socket) UnderlayIP(ctx context.Context) (string, error) {
	info, err := call(ctx, s, api.MethodSystemInfo, api.None{})
	return info.Underlay.IP, err
}

// Interfaces implements Daemon.
func (s Socket) Interfaces(ctx context.Context) ([]api.Interface, error) {
	list, err := call(ctx, s, api.MethodInterfaceList, api.None{})
	return list.Interfaces, err
}

// Captures implements Daemon.
func (s Socket) Captures(ctx context.Context) (api.CaptureStatusResult, error) {
	return call(ctx, s, api.MethodCaptureStatus, api.None{})
}

// Start implements Daemon.
func (s Socket) Start(ctx context.Context, p api.CaptureStartParams) (api.CaptureSession, error) {
	return call(ctx, s, api.MethodCaptureStart, p)
}

// Stop implements Daemon.
func (s Socket) Stop(ctx context.Context, name string) error {
	_, err := call(ctx, s, api.MethodCaptureStop, api.CaptureStopParams{Name: name})
	return err
}

func call[P, R any](ctx context.Context, s Socket, m api.Method[P, R], params P) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return client.Call(ctx, string(s), m, params)
}
