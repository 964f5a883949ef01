// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// attend connects to an audience, and waits until it is served.
func attend(t *testing.T, a *Audience) net.Conn {
	t.Helper()
	a.mu.Lock()
	before := len(a.readers)
	a.mu.Unlock()
	conn, err := net.Dial("unix", a.path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.readers) == before+1
	}, 10*time.Second, time.Millisecond)
	return conn
}

// numbers are those of the copies in a stream, which must be complete.
func numbers(t *testing.T, stream []byte) (all []uint32) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(stream), pcapgo.DefaultNgReaderOptions)
	require.NoError(t, err)
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		_, err = r.Interface(info.InterfaceIndex)
		require.NoError(t, err)
		all = append(all, binary.BigEndian.Uint32(data))
	}
}

func upTo(from, to uint32) (all []uint32) {
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

// servedFile is a reception into a file with an audience.
func servedFile(t *testing.T) (*served, string) {
	t.Helper()
	dir := t.TempDir()
	a, err := Listen(filepath.Join(dir, "live.sock"))
	require.NoError(t, err)
	file := filepath.Join(dir, "test.pcapng")
	c := Config{Output: Output{Path: file}, Serve: a}
	end := newWriteDeadlines(t.Context())
	t.Cleanup(end.close)
	r, err := openRecorder(t.Context(), &c, 3010, func() uint64 { return 0 }, end)
	require.NoError(t, err)
	return r.(*served), file
}

func (s *served) send(t *testing.T, from, to uint32, length int) {
	t.Helper()
	for n := from; n < to; n++ {
		require.NoError(t, s.write(t.Context(), numbered(n, time.Now(), length)))
	}
}

// Each reader gets a complete stream from its connection on; the file has everything.
func TestAudience(t *testing.T) {
	s, file := servedFile(t)
	info, err := os.Stat(s.audience.path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	s.send(t, 0, 10, 60)
	first := attend(t, s.audience)
	s.send(t, 10, 20, 60)
	require.NoError(t, s.stream.flush()) // what came before is not the second one's
	second := attend(t, s.audience)
	s.send(t, 20, 30, 60)
	gone := attend(t, s.audience)
	require.NoError(t, gone.Close())
	s.send(t, 30, 40, 60)
	require.NoError(t, s.close())
	for reader, want := range map[net.Conn][]uint32{first: upTo(10, 40), second: upTo(20, 40)} {
		stream, err := io.ReadAll(reader)
		require.NoError(t, err)
		assert.Equal(t, want, numbers(t, stream))
	}
	all, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, upTo(0, 40), numbers(t, all))
}

// A reader that does not read disturbs neither the file nor others. It misses packets, but can read the rest.
func TestSlowReader(t *testing.T) {
	s, file := servedFile(t)
	slow, quick := attend(t, s.audience), attend(t, s.audience)
	read := make(chan []byte)
	go func() {
		stream, _ := io.ReadAll(quick)
		read <- stream
	}()
	const copies = 20000 // of 9000 bytes each: more than is kept for a reader
	for n := range uint32(copies) {
		s.send(t, n, n+1, 9000)
		if n%100 == 0 {
			time.Sleep(time.Millisecond) // for the quick one
		}
	}
	rest := make(chan []byte)
	go func() {
		stream, _ := io.ReadAll(slow)
		rest <- stream
	}()
	require.NoError(t, s.close())
	seen := numbers(t, <-rest)
	assert.Less(t, len(seen), copies)
	assert.IsIncreasing(t, seen)
	assert.NotEmpty(t, seen)
	assert.NotZero(t, s.audience.Missed())
	got := numbers(t, <-read)
	assert.GreaterOrEqual(t, uint64(len(got)+len(seen))+s.audience.Missed(), uint64(2*copies), "what is missed is counted")
	all, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, upTo(0, copies), numbers(t, all))
}

func TestTooManyReaders(t *testing.T) {
	s, _ := servedFile(t)
	for range maxReaders {
		attend(t, s.audience)
	}
	conn, err := net.Dial("unix", s.audience.path)
	require.NoError(t, err)
	defer conn.Close()
	n, err := conn.Read(make([]byte, 1))
	assert.Zero(t, n)
	assert.Error(t, err)
	require.NoError(t, s.close())
}

// A socket that is in use is kept, one that is left over is replaced, and a file is nobody's to remove.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live.sock")
	a, err := Listen(path)
	require.NoError(t, err)
	_, err = Listen(path)
	require.ErrorContains(t, err, "another process listens")
	a.listener.SetUnlinkOnClose(false)
	require.NoError(t, a.listener.Close())
	a, err = Listen(path)
	require.NoError(t, err)
	require.NoError(t, a.Close())
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = Listen(path)
	require.ErrorContains(t, err, "no socket")
	assert.FileExists(t, path)
}
