// SPDX-License-Identifier: Apache-2.0

// Package audit writes down who has changed what, and what captures have copied: a JSON object a line, to a file or the
// journal. Whoever reports something never waits for the disk: records go through a bounded queue. Those that find it
// full, or that cannot be written, are counted, and the log tells how many are missing.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"dpservice/dpservice/access"
)

// Journal is the target that is systemd's journal.
const Journal = "journal"

const (
	// queueLength is how many records wait for a slow disk before others are lost.
	queueLength = 1024
	// maxParams is how many bytes of a request's parameters are written.
	maxParams = 16 << 10
	// patience is how long Reopen and Close wait for the disk.
	patience = 2 * time.Second
	// warnPeriod is the shortest time between two warnings in the daemon's log.
	warnPeriod = time.Minute
)

// Peer is who made a request. Except for UID and PID, which the kernel vouches for, it is what the process said when it
// connected.
type Peer struct {
	UID  uint32
	PID  int32
	Comm string // the name of its program
	From string // its control group: which service, session or container it belongs to
}

// Request is a request that would change something, or that was denied.
type Request struct {
	Method      string
	Peer        Peer
	Params      json.RawMessage
	Captures    []access.Capture // those that it starts or stops
	Denied      bool
	Result      string // done, or the reason of the error
	Error       string
	MissingRule string // see access.Denied
	Duration    time.Duration
}

// Log writes records. It is safe for concurrent use. A nil Log writes nothing.
type Log struct {
	log    *slog.Logger // the daemon's own
	queue  chan slog.Record
	orders chan order
	lost   atomic.Uint64
}

// order is to write elsewhere from now on, or to end if out is nil.
type order struct {
	out  *output
	done chan struct{}
}

// Open starts to write to a target: Journal, or the path of a file, which it creates if it is missing. log gets a
// warning if records are lost.
func Open(target string, log *slog.Logger) (*Log, error) {
	out, err := open(target)
	if err != nil {
		return nil, err
	}
	l := &Log{log: log, queue: make(chan slog.Record, queueLength), orders: make(chan order)}
	go l.run(out)
	return l, nil
}

// Reopen has records written to a target from now on. For the same file it opens it again: it may have been renamed, to
// be followed by a new one. On an error the Log goes on as before.
func (l *Log) Reopen(target string) error {
	out, err := open(target)
	if err != nil {
		return err
	}
	return l.give(out)
}

// give has the records written to out from now on. It gives up after a while: a disk that hangs stalls nobody.
func (l *Log) give(out *output) error {
	o := order{out, make(chan struct{})}
	timeout := time.After(patience)
	select {
	case l.orders <- o:
	case <-timeout:
		return errors.Join(errors.New("the audit log waits for the disk"), out.end())
	}
	select {
	case <-o.done:
		return nil
	case <-timeout:
		return errors.New("the audit log waits for the disk")
	}
}

// Lost returns how many records could not be written.
func (l *Log) Lost() uint64 {
	if l == nil {
		return 0
	}
	return l.lost.Load()
}

// Close writes what is in the queue, and gives up after a while. What is reported afterwards is lost.
func (l *Log) Close() error { return l.give(nil) }

// Request reports a request.
func (l *Log) Request(r Request) {
	level, message := slog.LevelInfo, "change"
	if r.Denied {
		level, message = slog.LevelWarn, "denied"
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), peerAttr(r.Peer), slog.Any("params", bounded(r.Params)),
		slog.String("result", r.Result), slog.Float64("seconds", r.Duration.Seconds()),
	}
	if len(r.Captures) > 0 {
		attrs = append(attrs, slog.Any("captures", captures(r.Captures)))
	}
	for _, text := range []struct{ key, value string }{{"error", r.Error}, {"missing_rule", r.MissingRule}} {
		if text.value != "" {
			attrs = append(attrs, slog.String(text.key, text.value))
		}
	}
	l.note(level, message, attrs...)
}

// bounded returns parameters of at most maxParams bytes; of longer ones it says the length.
func bounded(params json.RawMessage) any {
	switch {
	case len(params) == 0:
		return struct{}{}
	case len(params) > maxParams:
		return fmt.Sprintf("%d bytes", len(params))
	}
	return params
}

// userName finds the name of a user when the record is written, as that may take a while.
type userName uint32

// LogValue implements slog.LogValuer.
func (u userName) LogValue() slog.Value { return slog.StringValue(access.UserName(uint32(u))) }

func peerAttr(p Peer) slog.Attr {
	return slog.Group("peer", "uid", p.UID, "user", userName(p.UID), "pid", p.PID, "comm", p.Comm, "from", p.From)
}

// note puts a record into the queue.
func (l *Log) note(level slog.Level, message string, attrs ...slog.Attr) {
	if l == nil {
		return
	}
	r := slog.NewRecord(time.Now(), level, message, 0)
	r.AddAttrs(attrs...)
	select {
	case l.queue <- r:
	default:
		l.lost.Add(1)
	}
}

// run writes records until the Log is closed.
func (l *Log) run(out *output) {
	w := writer{log: l, out: out}
	for {
		select {
		case r := <-l.queue:
			w.write(r)
		case o := <-l.orders:
			if o.out == nil {
				w.drain()
			}
			w.replace(o.out)
			close(o.done)
			if o.out == nil {
				return
			}
		}
	}
}

// writer writes records and tells of those that are missing.
type writer struct {
	log    *Log
	out    *output
	noted  uint64    // of the lost records, those that a record has counted
	warned time.Time // when the daemon's log had the last warning
}

func (w *writer) write(r slog.Record) {
	if lost := w.log.lost.Load(); lost > w.noted {
		missing := slog.NewRecord(time.Now(), slog.LevelError, "records are missing", 0)
		missing.AddAttrs(slog.Uint64("count", lost-w.noted))
		if w.out.handler.Handle(context.Background(), missing) == nil {
			w.noted = lost
		}
		w.warn(fmt.Errorf("%d records so far", lost))
	}
	if err := w.out.handler.Handle(context.Background(), r); err != nil {
		w.log.lost.Add(1)
		w.warn(err)
	}
}

// drain writes what is in the queue.
func (w *writer) drain() {
	for {
		select {
		case r := <-w.log.queue:
			w.write(r)
		default:
			return
		}
	}
}

func (w *writer) warn(err error) {
	if time.Since(w.warned) >= warnPeriod {
		w.warned = time.Now()
		w.log.log.Warn("the audit log loses records", "err", err)
	}
}

func (w *writer) replace(out *output) {
	if err := w.out.end(); err != nil {
		w.warn(err)
	}
	w.out = out
}
