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
	"time"

	"github.com/sourcegraph/jsonrpc2"

	"dpservice/rpc/api"
	"dpservice/rpc/stream"
)

// maxClients bounds the connections, and with them the requests in flight: one of each.
const maxClients = 64

// grace is how long a request may take to end when the server stops.
const grace = 5 * time.Second

// Server is a JSON-RPC server.
type Server struct {
	methods    map[string]method
	limits     stream.Limits
	maxClients int
	log        *slog.Logger

	mu      sync.Mutex
	clients map[*stream.Stream]struct{}
	wg      sync.WaitGroup // one for each client
}

// New returns a server for the services.
func New(services Services) *Server {
	return &Server{
		methods:    methods(services),
		limits:     stream.DefaultLimits,
		maxClients: maxClients,
		log:        slog.Default().With("module", "rpc"),
		clients:    map[*stream.Stream]struct{}{},
	}
}

// Serve answers on l until ctx is done, then closes l, lets the requests in flight end, and returns nil. Any other
// end is an error.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	err := s.accept(ctx, l)
	closeErr := l.Close()
	s.end()
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
	st := stream.New(conn, s.limits)
	if !s.add(st) {
		refuse(st, s.maxClients)
		return
	}
	h := &handler{methods: s.methods, log: s.log, mayChange: mayChange(conn)}
	rpc := jsonrpc2.NewConn(context.Background(), st, h, jsonrpc2.SetLogger(slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)))
	go func() {
		<-rpc.DisconnectNotify()
		s.remove(st)
	}()
}

// refuse tells a client that there are too many, whatever it wants.
func refuse(st *stream.Stream, most int) {
	st.Refuse(api.CodeLimitReached, "LIMIT_REACHED", fmt.Sprintf("too many clients: %d are connected already", most))
	_ = st.Close() // nothing is lost with it
}

func (s *Server) add(st *stream.Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.clients) >= s.maxClients {
		return false
	}
	s.clients[st] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *Server) remove(st *stream.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, st)
	s.wg.Done()
}

// end lets every client have the answer to its current request, but closes the connections after the grace time.
func (s *Server) end() {
	s.each((*stream.Stream).Shutdown)
	ended := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(grace):
		s.log.Warn("closing connections whose requests did not end in time")
		s.each(func(st *stream.Stream) { _ = st.Close() })
	}
}

func (s *Server) each(f func(*stream.Stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.clients {
		f(st)
	}
}
