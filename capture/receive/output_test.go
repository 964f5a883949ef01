// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"dpservice/wire"
)

// unread returns a pipe that nobody reads. When it is full, the next write to it blocks.
func unread(t *testing.T, full bool) *os.File {
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = reader.Close() // unblocks the write
		_ = writer.Close()
	})
	if !full {
		return writer
	}
	fd := int(writer.Fd())
	require.NoError(t, unix.SetNonblock(fd, true))
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 4096))
	}
	require.ErrorIs(t, err, unix.EAGAIN)
	require.NoError(t, unix.SetNonblock(fd, false))
	return writer
}

// soon is when a reception has ended that waits for no reader, on a busy machine, too.
const soon = readerGrace + 20*time.Second

// A reception that ends does not wait for a reader that has stopped reading. It reports that the last data are lost.
func TestEndsThoughNobodyReads(t *testing.T) {
	for name, tt := range map[string]struct {
		config Config
		cancel bool
	}{
		"signal":   {cancel: true},
		"duration": {config: Config{Duration: 300 * time.Millisecond}},
		"packets":  {config: Config{Packets: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := tt.config
			output := unread(t, c.Packets == 0) // if the pipe is full already, no packets are sent
			c.Output = Output{File: output}
			done := make(chan error, 1)
			go func() {
				_, err := Run(ctx, withPort(t, c))
				done <- err
			}()
			if tt.cancel {
				time.Sleep(100 * time.Millisecond)
				cancel()
			}
			select {
			case err := <-done:
				require.ErrorIs(t, err, errStuck)
			case <-time.After(soon):
				require.Fail(t, "it does not end")
			}
		})
	}
}

// withPort sets a port of its own in a config, and sends some copies to it.
func withPort(t *testing.T, c Config) Config {
	r := reception{t: t, port: freePort(t)}
	c.Listen = r.address()
	c.Ready = func(Readiness) {
		for range 10 {
			r.send(make([]byte, 30_000))
		}
	}
	return c
}

// A reception ends even if its reader stops reading after a while.
func TestEndsWhenTheReaderStops(t *testing.T) {
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	defer reader.Close()
	defer writer.Close()
	r := start(t, Config{Output: Output{File: writer}})
	for range 2000 { // more than the pipe and the buffer hold
		r.send(make([]byte, 1400))
	}
	_, err = io.ReadFull(reader, make([]byte, 100))
	require.NoError(t, err)
	r.cancel()
	select {
	case err := <-r.done:
		require.ErrorIs(t, err, errStuck)
	case <-time.After(soon):
		require.Fail(t, "it does not end")
	}
}

// A reception waits for the reader of a FIFO until its context ends. When the reader closes the FIFO, the reception
// ends.
func TestFIFO(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	port := freePort(t)
	run := func(ctx context.Context, c Config) chan error {
		r := reception{t: t, port: port}
		c.Listen, c.Output = r.address(), Output{Path: fifo}
		done := make(chan error, 1)
		go func() {
			_, err := Run(ctx, c)
			done <- err
		}()
		return done
	}
	ended := func(done chan error) {
		t.Helper()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(5 * time.Second):
			require.Fail(t, "it does not end")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := run(ctx, Config{})
	time.Sleep(100 * time.Millisecond)
	cancel()
	ended(done)
	ended(run(t.Context(), Config{Duration: 50 * time.Millisecond}))

	done = run(t.Context(), Config{})
	reader, err := os.Open(fifo)
	require.NoError(t, err)
	_, err = io.ReadFull(reader, make([]byte, 28))
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	ended(done)
}

// Only its owner can read a capture file, and nobody can redirect it to another file.
func TestFileIsItsOwners(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	old := func(name string) {
		require.NoError(t, os.WriteFile(path(name), []byte("old"), 0o600))
		require.NoError(t, os.Chmod(path(name), 0o644))
	}
	for _, name := range []string{"old", "target", "linked", "others"} {
		old(name)
	}
	require.NoError(t, os.Symlink(path("target"), path("symlink")))
	require.NoError(t, os.Symlink(path("none"), path("dangling")))
	require.NoError(t, os.Link(path("linked"), path("link")))
	require.NoError(t, os.Mkdir(path("directory"), 0o700))
	refused := map[string]string{
		"symlink": "a symbolic link", "dangling": "a symbolic link", "link": "another name", "directory": "is a directory",
	}
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(path("others"), 1, 1))
		refused["others"] = "belongs to user 1"
	}
	for name, why := range refused {
		_, err := Run(t.Context(), withPort(t, Config{Output: Output{Path: path(name)}}))
		require.ErrorContains(t, err, why, name)
	}
	for _, name := range []string{"target", "linked", "others"} {
		text, err := os.ReadFile(path(name))
		require.NoError(t, err)
		assert.Equal(t, "old", string(text))
	}
	assert.NoFileExists(t, path("none"))
	for _, name := range []string{"old", "new"} {
		start(t, Config{Output: Output{Path: path(name)}}).stop()
		info, err := os.Stat(path(name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode(), name)
		read(t, path(name))
	}
}

// A series begins new files by time even if no copies arrive.
func TestRotationWithoutPackets(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Config{Output: Output{Path: filepath.Join(dir, "test.pcapng"), RotateInterval: 200 * time.Millisecond,
		Files: 2}})
	require.Eventually(t, func() bool {
		names, err := filepath.Glob(filepath.Join(dir, "test_*_*.pcapng"))
		return err == nil && len(names) == 2 && filepath.Base(names[1]) > "test_00004"
	}, timeout, 20*time.Millisecond)
	assert.Zero(t, r.stop().Packets)
	names, err := filepath.Glob(filepath.Join(dir, "test_*_*.pcapng"))
	require.NoError(t, err)
	require.Len(t, names, 2)
	for _, name := range names {
		packets, interfaces := read(t, name)
		assert.Empty(t, packets)
		assert.Len(t, interfaces, 1)
	}
}

// Made-up labels do not use up the interfaces of senders with known names. Made-up nodes do not use up those of senders
// whose node is known.
func TestNamedKeepTheirPlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.pcapng")
	const web, vm1 = 7, 9
	r := start(t, Config{Encap: wire.EncapVXLAN, Output: Output{Path: file}, Describe: func(s Sender) Description {
		switch s.Label {
		case web:
			return Description{Name: "web", AnyNode: true}
		case vm1:
			return Description{Name: "vm-1"}
		}
		return Description{}
	}})
	copyOf := func(label int) []byte { return []byte{0x08, 0, 0, 0, 0, byte(label >> 8), byte(label), 0, 1} }
	for label := 100; label < 500; label++ {
		r.send(copyOf(label))
	}
	r.send(copyOf(web))
	r.send(copyOf(vm1))
	r.stop()
	packets, interfaces := read(t, file)
	require.Len(t, packets, 402)
	assert.Equal(t, "web", packets[400].from)
	assert.Equal(t, "vm-1", packets[401].from)
	assert.Len(t, interfaces, 1+maxUnnamed+2)

	f := &files{counts: map[certainty]int{unnamed: maxUnnamed, likely: maxLikely},
		all: make([]*traffic, 1+maxUnnamed+maxLikely)}
	assert.False(t, f.hasRoom(unnamed))
	assert.False(t, f.hasRoom(likely))
	assert.True(t, f.hasRoom(certain))
	f.all = make([]*traffic, 1+MaxSenders)
	assert.False(t, f.hasRoom(certain))
}

// A sender whose name becomes known gets a new interface in the same file, even if it had no interface of its own.
func TestNamesThatBecomeKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.pcapng")
	names := make(chan string, 1)
	name := ""
	r := start(t, Config{Output: Output{Path: file}, Describe: func(Sender) Description {
		select {
		case name = <-names:
		default:
		}
		return Description{Name: name}
	}})
	r.sendFrom(7, []byte("one"))
	time.Sleep(100 * time.Millisecond)
	names <- "vm-1"
	time.Sleep(describeInterval + 500*time.Millisecond)
	r.sendFrom(7, []byte("two"))
	assert.Equal(t, 1, r.stop().Senders)
	packets, interfaces := read(t, file)
	require.Len(t, packets, 2)
	assert.Equal(t, "label-7", packets[0].from)
	assert.Equal(t, "vm-1", packets[1].from)
	for _, name := range []string{"label-7", "vm-1"} {
		assert.EqualValues(t, 1, interfaces[name].Statistics.PacketsReceived, name)
	}
}

// A reception skips a port that is in use if it may try more ports.
func TestNextFreePort(t *testing.T) {
	dir := t.TempDir()
	first := start(t, Config{Output: Output{Path: filepath.Join(dir, "1")}})
	second := reception{t: t, port: first.port}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got Readiness
	_, err := Run(ctx, Config{Listen: second.address(), Ports: 50, Output: Output{Path: filepath.Join(dir, "2")},
		Ready: func(r Readiness) { got = r; cancel() }})
	require.NoError(t, err)
	assert.Greater(t, got.At.Port(), first.port)
	_, interfaces := read(t, filepath.Join(dir, "2"))
	assert.Contains(t, interfaces, fmt.Sprintf("port-%d", got.At.Port()))
	first.stop()
}
