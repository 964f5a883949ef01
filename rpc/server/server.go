// SPDX-License-Identifier: Apache-2.0

// Package server answers JSON-RPC 2.0 requests on a unix socket.
//
// Requests of one connection are carried out in order, those of different connections at the same time.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/jsonrpc2"

	"dpservice/dpservice/access"
	"dpservice/dpservice/fence"
	"dpservice/rpc/api"
	"dpservice/rpc/stream"
)

// reserved is the number of connections for root and the daemon's user besides those for all.
const reserved = 8

// leastIdle is how long a connection must be idle before another may replace it: a new one will soon send a request.
const leastIdle = time.Second

// grace is how long a request may take to end when the server stops.
const grace = 5 * time.Second

// Config bounds what clients can hold. Fence and Log must be set.
type Config struct {
	MaxClients        int            // concurrent connections, besides those reserved for root and the daemon's user
	MaxClientsPerUser int            // the same for one user; no limit for root and the daemon's user
	IdleTimeout       time.Duration  // for a client to start a request
	RequestTimeout    time.Duration  // for a client to send the rest of a request
	Access            *access.Policy // nil: without rules
	Audit             Auditor        // nil: nothing is written down
	Fence             *fence.Fence
	Log               *slog.Logger
}

// Server is a JSON-RPC server.
type Server struct {
	cfg     Config
	methods map[string]method
	limits  stream.Limits
	rooms   map[bool]*room // for answers: of root and the daemon's user (true), and of all others
	log     *slog.Logger
	hangups *hangups
	access  atomic.Pointer[access.Policy]

	mu      sync.Mutex
	clients map[*client]struct{}
	wg      sync.WaitGroup // one for each client
}

// client is a connection.
type client struct {
	*stream.Stream
	uid        uint32
	privileged bool               // root's or the daemon's user's
	cancel     context.CancelFunc // of its requests
}

// New returns a server for the services.
func New(services Services, cfg Config) *Server {
	limits := stream.DefaultLimits
	limits.Idle, limits.Request = cfg.IdleTimeout, cfg.RequestTimeout
	s := &Server{
		cfg:     cfg,
		methods: methods(services),
		limits:  limits,
		rooms:   map[bool]*room{true: newRoom(maxAnswers), false: newRoom(maxAnswers)},
		log:     cfg.Log.With("module", "rpc"),
		clients: map[*client]struct{}{},
	}
	if cfg.Access == nil {
		cfg.Access, _ = access.New(nil, access.Names{})
	}
	s.SetAccess(cfg.Access)
	return s
}

// SetBounds changes what clients can hold. Times are those of connections that come.
func (s *Server) SetBounds(maxClients, maxClientsPerUser int, idle, request time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.MaxClients, s.cfg.MaxClientsPerUser = maxClients, maxClientsPerUser
	s.limits.Idle, s.limits.Request = idle, request
}

// streamLimits are those of a connection that comes.
func (s *Server) streamLimits() stream.Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limits
}

// Serve answers on l until ctx is done, then closes l, lets the requests in flight end, and returns nil. Any other
// end is an error.
func (s *Server) Serve(ctx context.Context, l *Listener) (err error) {
	if s.hangups, err = watchHangups(); err != nil {
		return errors.Join(err, l.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	err = s.accept(ctx, l)
	closeErr := l.Close()
	s.end()
	closeErr = errors.Join(closeErr, s.hangups.close())
	if ctx.Err() != nil {
		return closeErr
	}
	return err
}

// accept serves clients until l is closed.
func (s *Server) accept(ctx context.Context, l *Listener) error {
	for {
		conn, err := l.accept()
		switch {
		case err == nil:
			s.serve(conn)
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of file descriptors, say: the clients that are there go on
			s.log.Warn("accept failed", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// serve starts to answer a client, or refuses it if there are too many.
func (s *Server) serve(conn *net.UnixConn) {
	p, err := peerOf(conn)
	if err != nil {
		s.log.Warn("cannot identify a client", "error", err)
		_ = conn.Close() // nothing was written
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{Stream: stream.New(conn, s.streamLimits()), uid: p.uid, privileged: p.privileged(), cancel: cancel}
	if err := s.add(c); err != nil {
		cancel()
		c.Refuse(api.CodeLimitReached, api.ReasonLimitReached, err.Error()) // whatever it wants
		_ = c.Close()                                                       // nothing is lost with it
		return
	}
	forget, err := s.hangups.watch(conn, cancel)
	if err != nil { // its requests go on to their ends
		s.log.Warn("cannot watch a client", "error", err)
		forget = func() {}
	}
	h := &handler{
		ctx: ctx, methods: s.methods, room: s.rooms[c.privileged], fence: s.cfg.Fence, log: s.log,
		client: c, access: &s.access, peer: p.forAccess(conn.LocalAddr().String()), audit: s.cfg.Audit,
	}
	if h.audit != nil {
		h.auditPeer = p.forAudit()
	}
	quiet := jsonrpc2.SetLogger(slog.NewLogLogger(s.log.Handler(), slog.LevelDebug))
	rpc := jsonrpc2.NewConn(context.Background(), fenced{c.Stream, s.cfg.Fence}, h, quiet)
	go func() {
		<-rpc.DisconnectNotify()
		forget()
		cancel()
		s.remove(c)
	}()
}

// fenced is a stream whose parser may panic.
type fenced struct {
	*stream.Stream
	fence *fence.Fence
}

// ReadObject implements jsonrpc2.ObjectStream.
func (f fenced) ReadObject(v any) (err error) {
	return errors.Join(f.fence.Do("rpc_requests", func() { err = f.Stream.ReadObject(v) }), err)
}

// add registers a client. The error says why there are too many.
func (s *Server) add(c *client) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.full(c)
	if err != nil && s.dropIdlest(c.uid) {
		err = s.full(c)
	}
	if err != nil {
		return err
	}
	s.clients[c] = struct{}{}
	s.wg.Add(1)
	return nil
}

// full returns an error if there are too many clients for another one.
func (s *Server) full(c *client) error {
	public, own := 0, 0 // clients other than root and the daemon's user, and clients of this user
	for other := range s.clients {
		if !other.privileged {
			public++
		}
		if other.uid == c.uid {
			own++
		}
	}
	switch {
	case len(s.clients) >= s.cfg.MaxClients+reserved:
		return fmt.Errorf("too many clients: %d are connected already", len(s.clients))
	case c.privileged:
		return nil
	case own >= s.cfg.MaxClientsPerUser:
		return fmt.Errorf("too many clients: user %d has %d connections already", c.uid, own)
	case public >= s.cfg.MaxClients:
		return fmt.Errorf("too many clients: %d are connected already, and the other places are for root and the daemon's user", public)
	default:
		return nil
	}
}

// dropIdlest ends the connection of a user that has been idle longest, if it has been for leastIdle.
func (s *Server) dropIdlest(uid uint32) bool {
	var idlest *client
	oldest := time.Now().Add(-leastIdle)
	for c := range s.clients {
		if since, idle := c.IdleSince(); c.uid == uid && idle && since.Before(oldest) {
			idlest, oldest = c, since
		}
	}
	if idlest == nil {
		return false
	}
	idlest.GiveWay()
	delete(s.clients, idlest)
	return true
}

func (s *Server) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
	s.wg.Done()
}

// end lets every client have the answer to its current request, but closes the connections after the grace time.
func (s *Server) end() {
	s.each(func(c *client) { c.Shutdown() })
	ended := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(grace):
		s.log.Warn("closing connections whose requests did not end in time")
		s.each(func(c *client) { c.cancel(); _ = c.Close() })
	}
}

func (s *Server) each(f func(*client)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		f(c)
	}
}
