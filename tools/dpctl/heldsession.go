// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dpservice/capture/receive"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
)

const (
	// liveDstPort is the first UDP port at which a live capture tries to receive, and livePorts is how many it tries. A
	// firewall can allow this range.
	liveDstPort = 3010
	livePorts   = 64
	// watchInterval is how often a live capture checks that its session is still active.
	watchInterval = time.Second
)

// heldSession is the capture session of the daemon that belongs to a live capture: this process receives its copies.
// The daemon ends it when this process does, since then the connection ends.
type heldSession struct {
	app    *app
	conn   *client.Client
	node   netip.Addr // the hypervisor's underlay address
	sink   netip.Addr // where its copies are sent to: here
	params api.CaptureStartParams
	look   func(api.CaptureSession) error // looks at the session now and then; an error ends the reception
	end    context.CancelCauseFunc        // ends the reception

	mu      sync.Mutex
	session api.CaptureSession // as it was started
	started bool
	over    bool // the session must not be started any more
}

// newHeldSession connects to the daemon for a session with this machine as the sink. The caller closes the connection.
// It is made before privileges are dropped: later it might not be allowed.
func (a *app) newHeldSession(ctx context.Context, sink string, params api.CaptureStartParams) (*heldSession, error) {
	conn, err := client.Dial(ctx, a.socket)
	if err != nil {
		return nil, err
	}
	s := &heldSession{app: a, conn: conn, params: params}
	if err := s.findSink(ctx, sink); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.params.SinkNodeIP, s.params.Hold = s.sink.String(), true
	return s, nil
}

var errSessionEnded = errors.New("the session has ended")

// run starts the session and watches it. It ends the reception if the session is gone. begun is called when the session
// has started, unless it is nil.
func (s *heldSession) run(ctx context.Context, begun func(api.CaptureSession)) {
	if err := s.start(); err != nil {
		s.end(err)
		return
	}
	if begun != nil {
		begun(s.session)
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.check(ctx); err != nil {
			s.end(err)
			return
		}
	}
}

func (s *heldSession) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	// The end of the reception does not cancel the call: stop must know whether the session has started.
	ctx, cancel := context.WithTimeout(context.Background(), s.app.timeout)
	defer cancel()
	if err := s.conn.Call(ctx, api.MethodCaptureStart, s.params, &s.session); err != nil {
		return failure{explain(api.MethodCaptureStart, err)}
	}
	s.started = true
	return nil
}

// check returns an error, which ends the reception, if the session is not active any more.
func (s *heldSession) check(ctx context.Context) error {
	var status api.CaptureStatusResult
	if err := s.conn.Call(ctx, api.MethodCaptureStatus, nil, &status); err != nil {
		return failure{fmt.Errorf("the capture is lost: %w", err)}
	}
	for _, c := range status.Sessions {
		if c.Name == s.params.Name && c.State == "active" {
			return s.look(c)
		}
	}
	return errSessionEnded
}

// finish stops the session when the reception has ended with err, and returns what has failed: the reception, the
// session, or its end.
func (s *heldSession) finish(ctx context.Context, err error) error {
	if stopErr := s.stop(); err == nil {
		err = stopErr
	}
	var failed failure
	if cause := context.Cause(ctx); err == nil && errors.As(cause, &failed) {
		err = cause
	}
	return err
}

// stop stops the session if it was started. It is no error if it has already ended.
func (s *heldSession) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if !s.started {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.app.timeout)
	defer cancel()
	params := api.CaptureStopParams{Name: s.params.Name}
	err := s.conn.Call(ctx, api.MethodCaptureStop, params, &api.CaptureStopResult{})
	var refused *client.Error
	if errors.As(err, &refused) && (refused.Code == api.CodeNotActive || refused.Code == api.CodeNotFound) {
		return nil
	}
	return err
}

// findSink finds the node's address, and the one that it sends copies to: the given one, or the local address from
// which this machine reaches the node.
func (s *heldSession) findSink(ctx context.Context, given string) (err error) {
	if given != "" {
		if s.sink, err = netip.ParseAddr(given); err != nil || !s.sink.Is6() || !isLocal(s.sink) {
			return fmt.Errorf("--sink-node-ip: %q is no IPv6 address of this machine; without it the one is taken from which "+
				"the node is reached", given)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.app.timeout)
	defer cancel()
	var info api.SystemInfoResult
	if err := s.conn.Call(ctx, api.MethodSystemInfo, nil, &info); err != nil {
		return err
	}
	if s.node, err = netip.ParseAddr(info.Underlay.IP); err != nil || s.sink.IsValid() {
		return err
	}
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.node, liveDstPort))
	c, err := net.DialUDP("udp6", nil, to) // this sends no packet
	if err != nil {
		return fmt.Errorf("this machine does not reach the node's underlay address %s, so no copies would come back: run "+
			"this where it is reached, or say this machine's address in the underlay (--sink-node-ip): %w", s.node, err)
	}
	defer c.Close()
	s.sink = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	return nil
}

// isLocal reports whether this machine has an address. If it cannot be known, it may.
func isLocal(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(all, func(of net.Addr) bool {
		prefix, err := netip.ParsePrefix(of.String())
		return err == nil && prefix.Addr() == a.WithZone("")
	})
}

// listen has a reception take the copies at a port, or at the first free one if it is 0.
func (s *heldSession) listen(c *receive.Config, port uint16) {
	c.Listen = netip.AddrPortFrom(s.sink, port)
	if port == 0 {
		c.Listen, c.Ports = netip.AddrPortFrom(s.sink, liveDstPort), livePorts
	}
}

// describe names the interface that a sender's copies are of, once the session has been started.
func (s *heldSession) describe(from receive.Sender) receive.Description {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.session.Interfaces {
		if p := (point{s.params.Name, i}); from.Node == s.node && p.has(from.Label) {
			return p.describe(from.Label)
		}
	}
	return receive.Description{}
}
