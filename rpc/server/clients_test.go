// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/fence"
	"dpservice/dpservice/status"
	"dpservice/dpservice/vnet"
	"dpservice/rpc/api"
)

// dotSize is more than fits into a socket's buffer.
const dotSize = 1 << 20

// slow is a Graph whose DOT takes until it is released.
type slow struct {
	Graph
	entered  chan struct{}
	released chan struct{}
}

func (s slow) DOT() string {
	s.entered <- struct{}{}
	<-s.released
	return strings.Repeat("x", dotSize)
}

type instant struct{ System }

func (instant) Info() status.System { return status.System{Version: "1"} }

const (
	infoCall  = `{"jsonrpc":"2.0","id":1,"method":"system.info"}`
	flowsCall = `{"jsonrpc":"2.0","id":1,"method":"flow.list","params":{"limit":1000}}`
	dotCall   = `{"jsonrpc":"2.0","id":1,"method":"graph.dot"}`
)

// many is Flows with as many as fit into an answer.
type many struct{}

func (many) Flows(uint64, int, func(status.Flow) bool) ([]status.Flow, uint64, error) {
	flows := make([]status.Flow, api.MaxFlows)
	for i := range flows {
		flows[i] = status.Flow{Src: netip.IPv6Unspecified(), Dst: netip.IPv6Unspecified(), Interface: strings.Repeat("x", 64)}
	}
	return flows, 0, nil
}

// patient is a Capture that starts for as long as the client waits.
type patient struct {
	Capture
	entered, gone chan struct{}
}

func (p patient) Start(ctx context.Context, _ spec.Request) (spec.Session, error) {
	p.entered <- struct{}{}
	select {
	case <-ctx.Done():
		p.gone <- struct{}{}
	case <-time.After(300 * time.Millisecond):
	}
	return spec.Session{}, ctx.Err()
}

// nowhere has no interface.
type nowhere struct{ embedded }

// embedded is Interfaces under a name that none of its methods has.
type embedded = Interfaces

func (nowhere) Interface(id string) (vnet.Interface, error) {
	return vnet.Interface{}, fault.New(fault.NotFound, id, "no interface %q", id)
}

type fixture struct {
	path    string
	graph   slow
	capture patient
	cancel  context.CancelFunc
	served  chan error
}

func serveSlow(t *testing.T, change func(*Server)) fixture {
	dir, err := os.MkdirTemp("", "rpc")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := fixture{
		path:    filepath.Join(dir, "s"),
		graph:   slow{entered: make(chan struct{}), released: make(chan struct{})},
		capture: patient{entered: make(chan struct{}), gone: make(chan struct{}, 1)},
		served:  make(chan error, 1),
	}
	l, err := Listen(f.path)
	require.NoError(t, err)
	s := New(Services{System: instant{}, Interfaces: nowhere{}, Graph: f.graph, Flows: many{}, Capture: f.capture}, Config{
		MaxClients: 64, MaxClientsPerUser: 16, IdleTimeout: time.Minute, RequestTimeout: time.Minute,
		Fence: fence.New(slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler),
	})
	change(s)
	ctx, cancel := context.WithCancel(t.Context())
	f.cancel = cancel
	go func() { f.served <- s.Serve(ctx, l) }()
	return f
}

func (f fixture) dial(t *testing.T) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", f.path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn.(*net.UnixConn)
}

func send(t *testing.T, conn net.Conn, what string) {
	t.Helper()
	_, err := io.WriteString(conn, what)
	require.NoError(t, err)
}

func answers(t *testing.T, conn *net.UnixConn, what string) string {
	t.Helper()
	send(t, conn, what)
	require.NoError(t, conn.CloseWrite())
	data, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(data)
}

func TestClientsDoNotWaitForEachOther(t *testing.T) {
	f := serveSlow(t, func(s *Server) { s.limits.Write = 2 * time.Second })
	busy, stalled, halfSent := f.dial(t), f.dial(t), f.dial(t)
	send(t, stalled, dotCall) // and will not read its answer
	<-f.graph.entered
	f.graph.released <- struct{}{}
	send(t, busy, dotCall)
	<-f.graph.entered
	send(t, halfSent, infoCall[:10])

	assert.Contains(t, answers(t, f.dial(t), infoCall), `"version":"1"`)

	f.cancel()
	assert.NoFileExists(t, waitGone(f.path))
	f.graph.released <- struct{}{}
	data, err := io.ReadAll(busy)
	require.NoError(t, err)
	assert.Greater(t, len(data), dotSize, "a request in flight must be answered when the server ends")
	assert.NoError(t, <-f.served)
}

// TestTheEndDoesNotWaitForAStalledClient has clients that do not read an answer when the server ends, or not the one
// that it gives then.
func TestTheEndDoesNotWaitForAStalledClient(t *testing.T) {
	f := serveSlow(t, func(*Server) {})
	stalled, late := f.dial(t), f.dial(t)
	send(t, stalled, dotCall)
	<-f.graph.entered
	f.graph.released <- struct{}{}
	send(t, late, dotCall)
	<-f.graph.entered

	begun := time.Now()
	f.cancel()
	assert.NoFileExists(t, waitGone(f.path))
	f.graph.released <- struct{}{}
	assert.NoError(t, <-f.served)
	assert.Less(t, time.Since(begun), grace)
}

// waitGone returns path when it is gone, or after a second.
func waitGone(path string) string {
	for range 100 {
		if _, err := os.Lstat(path); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return path
}

// TestHangingUpEndsARequest has a client that closes its connection while its request is carried out, and one that only
// closes its sending side and waits.
func TestHangingUpEndsARequest(t *testing.T) {
	const start = `{"jsonrpc":"2.0","id":1,"method":"capture.start","params":{"sink_node_ip":"fc00:2::1","udp_src_port":1,"udp_dst_port":2,"interfaces":[{"vf":"vm-1"}]}}`
	f := serveSlow(t, func(*Server) {})
	waiting := f.dial(t)
	send(t, waiting, start)
	require.NoError(t, waiting.CloseWrite())
	<-f.capture.entered
	answer, err := io.ReadAll(waiting)
	require.NoError(t, err)
	assert.Contains(t, string(answer), `"result":{`)

	gone := f.dial(t)
	send(t, gone, start)
	<-f.capture.entered
	require.NoError(t, gone.Close())
	select {
	case <-f.capture.gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the request goes on for nobody")
	}
	assert.Contains(t, answers(t, f.dial(t), infoCall), `"version":"1"`)
	f.cancel()
	assert.NoError(t, <-f.served)
}

// TestABatchIsAnsweredPieceByPiece reads a batch's first answer while its second request is carried out.
func TestABatchIsAnsweredPieceByPiece(t *testing.T) {
	f := serveSlow(t, func(*Server) {})
	conn := f.dial(t)
	send(t, conn, "["+infoCall+","+dotCall+"]")
	<-f.graph.entered
	first := make([]byte, len(`[{"jsonrpc":"2.0","id":1,"result":`))
	_, err := io.ReadFull(conn, first)
	require.NoError(t, err)
	assert.Equal(t, `[{"jsonrpc":"2.0","id":1,"result":`, string(first))
	require.NoError(t, conn.CloseWrite())
	f.graph.released <- struct{}{}
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(rest), "}]\n"))
	f.cancel()
	assert.NoError(t, <-f.served)
}

// TestUnreadAnswersAreBounded has clients with batches of large answers that they do not read.
func TestUnreadAnswersAreBounded(t *testing.T) {
	const clients, bound = 30, 2 << 20
	f := serveSlow(t, func(s *Server) {
		s.rooms[true] = &room{semaphore.NewWeighted(bound), 100 * time.Millisecond}
	})
	batch := "[" + strings.Repeat(flowsCall+",", 49) + flowsCall + "]"
	before := heap()
	for range clients {
		send(t, f.dial(t), batch)
	}
	time.Sleep(time.Second) // they would fill up the memory meanwhile
	assert.Less(t, heap(), before+4*bound)

	assert.Contains(t, answers(t, f.dial(t), infoCall), `"version":"1"`, "short answers need no room")
	refused := answers(t, f.dial(t), flowsCall)
	assert.Contains(t, refused, `"code":-32004,"message":"too many large answers wait for their clients to read them"`)
	f.cancel()
	assert.NoError(t, <-f.served)
}

// TestRoomIsGivenBack has a client that reads all that others did not get.
func TestRoomIsGivenBack(t *testing.T) {
	f := serveSlow(t, func(s *Server) { s.rooms[true] = &room{semaphore.NewWeighted(1 << 20), time.Minute} })
	for range 5 {
		got := answers(t, f.dial(t), "["+strings.Repeat(flowsCall+",", 9)+flowsCall+"]")
		assert.Equal(t, 10, strings.Count(got, `"result":`))
	}
	f.cancel()
	assert.NoError(t, <-f.served)
}

// TestAPanicCostsOneAnswer has a method that panics.
func TestAPanicCostsOneAnswer(t *testing.T) {
	var s *Server
	f := serveSlow(t, func(server *Server) { s = server })
	got := answers(t, f.dial(t), `{"jsonrpc":"2.0","id":7,"method":"rule.list"}`+infoCall) // there are no Rules
	assert.Contains(t, got, `"id":7,"error":{"code":-32603,"message":"internal error: rule.list panicked: `)
	assert.Contains(t, got, `"version":"1"`)
	assert.Equal(t, map[string]uint64{"rule.list": 1}, s.cfg.Fence.Panics())
	f.cancel()
	assert.NoError(t, <-f.served)
}

// heap is how many bytes are in use.
func heap() int {
	runtime.GC()
	runtime.GC() // what pools held goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
