// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"dpservice/capture/spec"
	"dpservice/dpservice/access"
	"dpservice/wire"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// read returns the records of a file.
func read(t *testing.T, path string) (records []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var record map[string]any
		require.NoError(t, json.Unmarshal(lines.Bytes(), &record), lines.Text())
		at, err := time.Parse(time.RFC3339Nano, record["time"].(string))
		require.NoError(t, err)
		assert.Less(t, time.Since(at), time.Hour)
		delete(record, "time")
		records = append(records, record)
	}
	return records
}

func someRequest(n int) Request {
	return Request{Method: "interface.delete", Result: "done", Params: json.RawMessage(fmt.Sprintf(`{"id":"vm-%d"}`, n))}
}

func TestRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.json")
	l, err := Open(path, quiet())
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())
	l.Request(Request{
		Method: "capture.start", Peer: Peer{UID: 0, PID: 17, Comm: "dpctl", From: "/user.slice"},
		Params: json.RawMessage(`{"name":"x"}`), Result: "done", Duration: 250 * time.Millisecond,
		Captures: []access.Capture{{Name: "x", Sink: netip.MustParseAddr("fc00::9"),
			Targets: []access.Target{{Interface: "vm-1", VNI: 100}, {PF: 0}}}},
	})
	l.Request(Request{
		Method: "route.add", Peer: Peer{UID: 4242424}, Params: json.RawMessage(`{"x":"` + strings.Repeat("y", 1<<20) + `"}`),
		Denied: true, Result: "PERMISSION_DENIED", Error: "no", MissingRule: "- {uids: [4242424], allow: [routes]}",
	})
	require.NoError(t, l.Close())
	assert.Equal(t, []map[string]any{{
		"level": "INFO", "msg": "change", "method": "capture.start",
		"peer":   map[string]any{"uid": 0.0, "user": "root", "pid": 17.0, "comm": "dpctl", "from": "/user.slice"},
		"params": map[string]any{"name": "x"}, "result": "done", "seconds": 0.25,
		"captures": []any{map[string]any{"name": "x", "sink": "fc00::9",
			"targets": []any{map[string]any{"interface": "vm-1", "vni": 100.0}, map[string]any{"pf": 0.0}}}},
	}, {
		"level": "WARN", "msg": "denied", "method": "route.add",
		"peer":   map[string]any{"uid": 4242424.0, "user": "", "pid": 0.0, "comm": "", "from": ""},
		"params": "1048584 bytes", "result": "PERMISSION_DENIED", "seconds": 0.0, "error": "no",
		"missing_rule": "- {uids: [4242424], allow: [routes]}",
	}}, read(t, path))
	assert.Zero(t, l.Lost())
}

func TestCaptures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.json")
	l, err := Open(path, quiet())
	require.NoError(t, err)
	s := spec.Session{
		Name: "lab", StartedAt: time.Unix(1000, 0).UTC(), EndedAt: time.Unix(1060, 0).UTC(),
		Sink: netip.MustParseAddr("fc00::9"), UDPDstPort: 3010, Encap: wire.EncapUDP, Filter: "tcp",
		Limits:  spec.Limits{Duration: time.Minute, PacketsPerSecond: 5},
		Packets: 7, Bytes: 700, Warnings: []string{"a gap"},
		Interfaces: []spec.SessionInterface{{Target: spec.Target{VF: "vm-1"}, Direction: spec.RX, Packets: 7, Bytes: 700}},
	}
	vni := func(string) uint32 { return 100 }
	l.CaptureRestored(s, vni)
	l.CaptureEnded(s, "duration", vni)
	require.NoError(t, l.Close())
	records := read(t, path)
	require.Len(t, records, 2)
	want := map[string]any{
		"level": "INFO", "msg": "capture restored", "capture": "lab", "sink": "fc00::9", "udp_dst_port": 3010.0,
		"encap": "udp", "filter": "tcp", "packets": 7.0, "bytes": 700.0, "started_at": "1970-01-01T00:16:40Z",
		"limits":   map[string]any{"duration": "1m0s", "packets": 0.0, "bytes": 0.0, "packets_per_second": 5.0},
		"warnings": []any{"a gap"}, "targets": []any{map[string]any{
			"interface": "vm-1", "vni": 100.0, "direction": "rx", "packets": 7.0, "bytes": 700.0}},
	}
	assert.Equal(t, want, records[0])
	want["msg"], want["reason"], want["seconds"] = "capture ended", "duration", 60.0
	want["ended_at"] = "1970-01-01T00:17:40Z"
	assert.Equal(t, want, records[1])
}

// After a rotation Reopen writes to a new file. Each record is in one of both.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.json")
	l, err := Open(path, quiet())
	require.NoError(t, err)
	for n := range 3 {
		l.Request(someRequest(n))
	}
	require.NoError(t, os.Rename(path, path+".1"))
	require.NoError(t, l.Reopen(path))
	l.Request(someRequest(3))
	require.NoError(t, l.Close())
	assert.Len(t, append(read(t, path+".1"), read(t, path)...), 4)
	assert.FileExists(t, path)

	l, err = Open(path, quiet())
	require.NoError(t, err)
	require.ErrorContains(t, l.Reopen("/no/such/folder/audit.json"), "no such file")
	l.Request(someRequest(4))
	require.NoError(t, l.Close())
	assert.Len(t, append(read(t, path+".1"), read(t, path)...), 5, "it goes on, and appends")
}

func TestTargetsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "missing", "audit.json"), quiet())
	require.ErrorContains(t, err, "audit: open "+dir)
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	_, err = Open(pipe, quiet())
	require.ErrorContains(t, err, "audit: ")
	_, err = Open("/dev/null", quiet())
	require.ErrorContains(t, err, "audit: /dev/null is no regular file")
}

// A nil Log takes everything, and writes nothing.
func TestNoLog(t *testing.T) {
	var l *Log
	l.Request(someRequest(0))
	l.CaptureEnded(spec.Session{Interfaces: []spec.SessionInterface{{Target: spec.Target{VF: "vm-1"}}}}, "", nil)
	assert.Zero(t, l.Lost())
}

// disk is a handler's writer that hangs and fails on request.
type disk struct {
	written bytes.Buffer
	hangs   chan struct{} // closed when it goes on
	began   chan struct{} // gets an element for each write
	room    int           // bytes that it takes before it is full
}

func (d *disk) Write(line []byte) (int, error) {
	select {
	case d.began <- struct{}{}:
	default:
	}
	<-d.hangs
	n := min(len(line), d.room)
	d.room -= n
	d.written.Write(line[:n])
	if n < len(line) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func on(d *disk, log *slog.Logger) *Log {
	l := &Log{log: log, queue: make(chan slog.Record, queueLength), orders: make(chan order)}
	go l.run(&output{slog.NewJSONHandler(&lines{file: d}, nil), func() error { return nil }})
	return l
}

// TestSlowDisk reports more than the queue holds while the disk hangs: nobody waits, and a record counts what is
// lost.
func TestSlowDisk(t *testing.T) {
	d := &disk{hangs: make(chan struct{}), began: make(chan struct{}, 1), room: 1 << 30}
	var said bytes.Buffer
	l := on(d, slog.New(slog.NewTextHandler(&said, nil)))
	l.Request(someRequest(0))
	<-d.began
	const more = 5
	for n := range queueLength + more {
		l.Request(someRequest(n + 1))
	}
	assert.EqualValues(t, more, l.Lost())
	require.ErrorContains(t, l.Reopen(filepath.Join(t.TempDir(), "audit.json")), "waits for the disk")
	close(d.hangs)
	require.NoError(t, l.Close())
	text := d.written.String()
	assert.Equal(t, queueLength+1, strings.Count(text, `"msg":"change"`))
	assert.Equal(t, 1, strings.Count(text, fmt.Sprintf(`"msg":"records are missing","count":%d`, more)))
	assert.Contains(t, said.String(), "the audit log loses records")
}

// On a disk that was full, whole lines follow the one for which there was no room.
func TestFullDisk(t *testing.T) {
	d := &disk{hangs: make(chan struct{}), room: 40}
	close(d.hangs)
	l := on(d, quiet())
	l.Request(someRequest(0))
	require.Eventually(t, func() bool { return l.Lost() == 1 }, 10*time.Second, time.Millisecond)
	done := make(chan struct{})
	l.orders <- order{&output{slog.NewJSONHandler(&lines{file: d, broken: true}, nil), func() error { return nil }}, done}
	<-done
	d.room = 1 << 20
	l.Request(someRequest(1))
	require.NoError(t, l.Close())
	written := strings.Split(strings.TrimSpace(d.written.String()), "\n")
	require.Len(t, written, 3)
	assert.False(t, json.Valid([]byte(written[0])))
	assert.Contains(t, written[1], `"msg":"records are missing","count":1`)
	assert.Contains(t, written[2], "vm-1")
	assert.True(t, json.Valid([]byte(written[2])))
}
