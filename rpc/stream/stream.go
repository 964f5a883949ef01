// SPDX-License-Identifier: Apache-2.0

// Package stream is the server's end of a JSON-RPC 2.0 connection: plain JSON texts, one after another.
//
// It is a jsonrpc2.ObjectStream and does what jsonrpc2's own plain stream cannot: jsonrpc2 has no batches, closes
// the connection on malformed or invalid requests without an answer, knows no id but a string or an integer that
// fits 64 bits, and bounds nothing. Here every message is checked as the specification says before jsonrpc2 sees
// it, and what is wrong is answered at once. jsonrpc2 gets one valid request at a time, under an id of the stream.
//
// The handler must answer a request before it returns (jsonrpc2 calls it on the read loop), so the requests of one
// connection are carried out in order, a batch is complete when the next message is read, and a client that half-closes
// after its last request still gets every answer. It answers by Answer or Fail, as JSON that is sent at once: an answer
// is in memory once, and a batch's answers one after the other.
package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"dpservice/rpc/api"
)

// Limits bound what a client can make the server hold and how long it can make it wait.
type Limits struct {
	Message int           // bytes of one message (a request or a whole batch)
	Batch   int           // requests of one batch
	Write   time.Duration // for the client to take an answer
	Last    time.Duration // the same once the server ends
	Idle    time.Duration // for the client to begin a request, after the last answer
	Request time.Duration // for the client to send the rest of a request
	Resync  time.Duration // for the client to end the line with malformed JSON, or the message that is too large
}

// DefaultLimits are wide for any honest client.
var DefaultLimits = Limits{
	Message: 1 << 20, Batch: 100, Write: 10 * time.Second, Last: time.Second,
	Idle: time.Minute, Request: 10 * time.Second, Resync: 5 * time.Second,
}

// Stream is a connection from a client. Only Close, Shutdown, IdleSince and GiveWay may be called concurrently with
// other methods.
type Stream struct {
	conn   net.Conn
	limits Limits
	lines  lineReader
	dec    *json.Decoder

	queue  []json.RawMessage // requests of the current message that jsonrpc2 has not seen yet
	batch  bool              // the current message is a batch
	begun  bool              // the current batch's answer was begun
	id     json.RawMessage   // of the request that jsonrpc2 handles
	failed error             // of the write after which nothing can be answered any more

	mu       sync.Mutex // guards the deadlines and all below
	shutdown bool
	giveWay  bool
	idle     time.Time // since when no request has begun; zero: one has
}

// New returns a stream on conn, which it owns.
func New(conn net.Conn, limits Limits) *Stream {
	s := &Stream{conn: conn, limits: limits}
	s.lines.init(conn)
	s.dec = json.NewDecoder(&s.lines)
	return s
}

// ReadObject stores the next valid request in v.
func (s *Stream) ReadObject(v any) error {
	for s.failed == nil {
		if len(s.queue) == 0 {
			if err := s.nextMessage(); err != nil {
				return err
			}
			continue
		}
		raw := s.queue[0]
		s.queue = s.queue[1:]
		req, invalid := parseRequest(raw)
		s.id = req.ID
		if invalid != nil {
			s.reply(req.ID, "error", invalid)
			continue
		}
		return json.Unmarshal(req.normal(), v)
	}
	return s.failed
}

// WriteObject implements jsonrpc2.ObjectStream. It is not called: the stream sends no requests, and the handler answers
// by Answer or Fail.
func (s *Stream) WriteObject(any) error { return errors.ErrUnsupported }

// Answer sends the result of the request that was read last.
func (s *Stream) Answer(result json.RawMessage) error {
	s.reply(s.id, "result", result)
	return s.failed
}

// Fail sends an error in place of the result.
func (s *Stream) Fail(rpcError json.RawMessage) error {
	s.reply(s.id, "error", rpcError)
	return s.failed
}

// Refuse sends an error that answers no request. It is for a client that is not served: nothing else is called
// but Close.
func (s *Stream) Refuse(code api.Code, reason, message string) {
	s.fail(code, reason, message)
}

// IdleSince tells since when the client has not begun a request; false if it has.
func (s *Stream) IdleSince() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle, !s.idle.IsZero()
}

// GiveWay ends an idle stream, and tells its client that another of its user takes its place.
func (s *Stream) GiveWay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveWay = true
	_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // fails only if the connection is closed
}

// Close closes the connection.
func (s *Stream) Close() error { return s.conn.Close() }

// Shutdown makes ReadObject return io.EOF as soon as the message that is being handled has been answered. A client that
// does not take its answer soon loses it.
func (s *Stream) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutdown = true
	// They fail only if the connection is closed.
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.limits.Last))
}

// nextMessage answers the batch that is complete, then reads the next message into the queue.
func (s *Stream) nextMessage() error {
	s.endBatch()
	if s.failed != nil {
		return s.failed
	}
	s.lines.left = s.limits.Message
	if err := s.await(); err != nil {
		return err
	}
	var raw json.RawMessage
	err := s.dec.Decode(&raw)
	if err == nil && len(raw) > s.limits.Message {
		err = errTooLong
	}
	if err != nil {
		return s.readFailed(err)
	}
	if raw[0] != '[' {
		s.queue = append(s.queue, raw)
		return nil
	}
	return s.startBatch(raw)
}

// startBatch puts the requests of a batch into the queue.
func (s *Stream) startBatch(raw json.RawMessage) error {
	var requests []json.RawMessage
	if err := json.Unmarshal(raw, &requests); err != nil {
		return fmt.Errorf("batch: %w", err) // cannot be: raw is an array
	}
	switch n := len(requests); {
	case n == 0:
		s.fail(api.CodeInvalidRequest, api.ReasonInvalidRequest, "invalid request: the batch is empty")
	case n > s.limits.Batch:
		s.fail(api.CodeInvalidRequest, api.ReasonInvalidRequest,
			fmt.Sprintf("invalid request: a batch of %d, at most %d are allowed", n, s.limits.Batch))
	default:
		s.batch, s.queue = true, requests
	}
	return nil
}

// await waits for a message to begin.
func (s *Stream) await() error {
	s.setIdle(time.Now())
	s.dec.More() // reads up to the first byte that is no white space
	s.setIdle(time.Time{})
	if errors.Is(s.lines.err, os.ErrDeadlineExceeded) {
		return s.late(fmt.Sprintf("no request within %v", s.limits.Idle))
	}
	s.setReadDeadline(time.Now().Add(s.limits.Request))
	return nil
}

func (s *Stream) setIdle(since time.Time) {
	s.mu.Lock()
	s.idle = since
	s.mu.Unlock()
	if !since.IsZero() {
		s.setReadDeadline(since.Add(s.limits.Idle))
	}
}

// late ends the stream after a read that was not done in time, and says why.
func (s *Stream) late(message string) error {
	s.mu.Lock()
	shutdown, giveWay := s.shutdown, s.giveWay
	s.mu.Unlock()
	switch {
	case shutdown: // the client gets no message about it
	case giveWay:
		s.fail(api.CodeLimitReached, api.ReasonLimitReached,
			"another connection of this user has taken the place of this idle one")
	default:
		s.fail(api.CodeTimedOut, api.ReasonTimedOut, "timed out: "+message)
	}
	return io.EOF
}

// endBatch ends the current batch's answer. Nothing was sent if all of its requests were notifications.
func (s *Stream) endBatch() {
	begun := s.begun
	s.batch, s.begun = false, false
	if begun {
		s.send([]byte("]\n"))
	}
}

// readFailed answers what can be answered, and returns nil if the stream goes on.
func (s *Stream) readFailed(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, errTooLong):
		s.fail(api.CodeInvalidRequest, api.ReasonInvalidRequest,
			fmt.Sprintf("invalid request: the message is larger than %d bytes", s.limits.Message))
		s.drain()
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s.late(fmt.Sprintf("the request was not complete within %v", s.limits.Request))
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.fail(api.CodeParseError, api.ReasonParseError, "parse error: unexpected end of the JSON text")
		return io.EOF
	case errors.As(err, &syntax):
		s.fail(api.CodeParseError, api.ReasonParseError, "parse error: "+syntax.Error())
		return s.resync()
	default: // the end, of the client or of the server: no error to report
		return io.EOF
	}
}

// resync goes on behind the end of the line in which the malformed JSON was found.
func (s *Stream) resync() error {
	if s.failed != nil {
		return s.failed
	}
	s.setReadDeadline(time.Now().Add(s.limits.Resync))
	if err := s.lines.discardLine(); err != nil {
		return io.EOF
	}
	s.setReadDeadline(time.Time{})
	s.dec = json.NewDecoder(&s.lines)
	return nil
}

// drain reads what the client still sends: a connection that is closed with unread data in it ends with an error on
// the client's side, which might keep the client from reading the answer.
func (s *Stream) drain() {
	s.setReadDeadline(time.Now().Add(s.limits.Resync))
	_, _ = io.Copy(io.Discard, s.lines.r) // ends with an error only because of the deadline
}

func (s *Stream) setReadDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shutdown && !s.giveWay {
		_ = s.conn.SetReadDeadline(t) // fails only if the connection is closed
	}
}

// limitWrite gives the client time to take an answer.
func (s *Stream) limitWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.limits.Write
	if s.shutdown {
		limit = min(limit, s.limits.Last)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(limit)) // fails only if the connection is closed
}

// reply sends a response with this member, as a part of its batch's answer if it is of one.
func (s *Stream) reply(id json.RawMessage, member string, value json.RawMessage) {
	before, after := "", "\n"
	if s.batch {
		before, after = "[", ""
		if s.begun {
			before = ","
		}
		s.begun = true
	}
	s.send([]byte(before+`{"jsonrpc":"2.0","id":`), id, []byte(`,"`+member+`":`), value, []byte("}"+after))
}

// fail sends an error that answers no request.
func (s *Stream) fail(code api.Code, reason, message string) {
	s.reply(null, "error", rpcError(code, reason, message))
}

// oneWrite is up to how many bytes are sent by one write.
const oneWrite = 64 << 10

// send sends parts of the text, without a copy of them if they are long.
func (s *Stream) send(parts ...[]byte) {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if size <= oneWrite {
		parts = [][]byte{bytes.Join(parts, nil)}
	}
	s.limitWrite()
	for _, part := range parts {
		if s.failed != nil {
			return
		}
		if _, err := s.conn.Write(part); err != nil {
			s.failed = fmt.Errorf("answer: %w", err)
		}
	}
}

// rpcError returns the error member of a response.
func rpcError(code api.Code, reason, message string) json.RawMessage {
	data, err := json.Marshal(struct {
		Code    api.Code      `json:"code"`
		Message string        `json:"message"`
		Data    api.ErrorData `json:"data"`
	}{code, message, api.ErrorData{Reason: reason}})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return data
}

var null = json.RawMessage("null")

// isNull reports whether raw is JSON's null.
func isNull(raw json.RawMessage) bool { return bytes.Equal(raw, null) }
