// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"dpservice/rpc/server"
	"dpservice/rpc/server/servertest"
)

func TestSocketFile(t *testing.T) {
	path := filepath.Join(runtimeDir(t), "a", "b", "dpservice.sock")
	old := unix.Umask(0)
	defer unix.Umask(old)
	l, err := server.Listen(path)
	require.NoError(t, err)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	assert.Equal(t, os.ModeSocket|0o660, info.Mode())
	dir, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o755), dir.Mode().Perm())
	require.NoError(t, l.Close())
	assert.NoFileExists(t, path)
	assert.NoError(t, l.Close(), "a second Close is none")
}

// runtimeDir is a directory below the system's runtime directory.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "rpc")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func TestDirectoriesAreMadeOnlyBelowTheRuntimeDirectory(t *testing.T) {
	elsewhere, below := servertest.SocketDir(t), runtimeDir(t)
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(below, "out")))
	for _, dir := range []string{filepath.Join(elsewhere, "new"), filepath.Join(below, "out", "new"),
		below + "/../.." + elsewhere + "/new"} {
		_, err := server.Listen(dir + "/s")
		assert.Error(t, err, dir)
		assert.NoDirExists(t, filepath.Join(elsewhere, "new"))
	}
	_, err := server.Listen(filepath.Join(elsewhere, "new", "s"))
	assert.ErrorContains(t, err, "only those below /run are made")
	l, err := server.Listen(filepath.Join("/var", below, "new", "s"))
	require.NoError(t, err)
	assert.NoError(t, l.Close())
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(servertest.SocketDir(t), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	dead.SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	require.FileExists(t, path)

	l, err := server.Listen(path)
	require.NoError(t, err)
	assert.NoError(t, l.Close())
}

func TestLiveSocketIsNot(t *testing.T) {
	path := servertest.Start(t, servertest.New().Services())
	_, err := server.Listen(path)
	assert.EqualError(t, err, "socket "+path+": another daemon is listening there")
	assert.Equal(t, statusReply+"\n", exchange(t, path, statusCall), "the first daemon must go on")
}

func TestOtherFilesAreNotReplaced(t *testing.T) {
	path := filepath.Join(servertest.SocketDir(t), "s")
	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err := server.Listen(path)
	assert.ErrorContains(t, err, "not a socket")
	assert.FileExists(t, path)
}

func TestListenErrors(t *testing.T) {
	_, err := server.Listen("/" + strings.Repeat("x", 107))
	assert.ErrorContains(t, err, "longer than 107 bytes")
	file := filepath.Join(servertest.SocketDir(t), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = server.Listen(filepath.Join(file, "s"))
	assert.ErrorContains(t, err, "not a directory")
}

func TestOneOfManyListens(t *testing.T) {
	path := filepath.Join(servertest.SocketDir(t), "s")
	var wg sync.WaitGroup
	listeners := make(chan *server.Listener, 8)
	for range cap(listeners) {
		wg.Go(func() {
			if l, err := server.Listen(path); err == nil {
				listeners <- l
			}
		})
	}
	wg.Wait()
	require.Len(t, listeners, 1)
	assert.NoError(t, (<-listeners).Close())
}

func TestCloseLeavesAnothersSocket(t *testing.T) {
	path := filepath.Join(servertest.SocketDir(t), "s")
	first, err := server.Listen(path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	second, err := server.Listen(path)
	require.NoError(t, err)
	assert.NoError(t, first.Close())
	assert.FileExists(t, path)
	assert.NoError(t, second.Close())
}

func TestServeEndsWithItsContext(t *testing.T) {
	path := filepath.Join(servertest.SocketDir(t), "s")
	l, err := server.Listen(path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- server.New(servertest.New().Services(), servertest.Config()).Serve(ctx, l) }()
	idle := dial(t, path)
	cancel()
	assert.NoError(t, <-served)
	assert.NoFileExists(t, path)
	_, err = idle.Read(make([]byte, 1))
	assert.Regexp(t, "EOF|connection reset", err.Error()) // the latter if it was never accepted
}

// who connects to the socket.
type who struct {
	uid    int
	gid    int
	groups []uint32
}

func TestPeerCredentials(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	socket := servertest.Start(t, servertest.New().Services())
	require.NoError(t, os.Chmod(filepath.Dir(socket), 0o755))
	require.NoError(t, os.Chmod(socket, 0o666)) // for others to look
	require.NoError(t, os.Chown(socket, 0, 4242))
	const stop = `{"jsonrpc":"2.0","id":1,"method":"capture.stop"}`

	tests := map[string]struct {
		who     who
		allowed bool
	}{
		"root":                        {who{0, 0, nil}, true},
		"member by primary group":     {who{4243, 4242, nil}, true},
		"member by additional groups": {who{4243, 4243, manyGroups(4242)}, true},
		"other":                       {who{4243, 4243, []uint32{1, 2}}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			conn := connectAs(t, socket, tt.who)
			_, err := conn.Write([]byte(stop + statusCall))
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			answers := readAll(t, conn)
			want := `"reason":"NOT_ACTIVE"`
			if !tt.allowed {
				want = `"error":{"code":-32008,"message":"capture.stop is for root, the daemon's user and the members ` +
					`of the socket's group","data":{"reason":"PERMISSION_DENIED"}}`
			}
			assert.Contains(t, answers[0], want)
			assert.Equal(t, statusReply, answers[1], "everybody may look")
		})
	}
}

// manyGroups returns more groups than one usually has, the last of which is last.
func manyGroups(last uint32) []uint32 {
	var groups []uint32
	for g := range uint32(100) {
		groups = append(groups, 1000+g)
	}
	return append(groups, last)
}

// connectAs connects as somebody else. The thread that was somebody else ends with its goroutine.
func connectAs(t *testing.T, socket string, w who) *net.UnixConn {
	t.Helper()
	fds := make(chan int)
	go func() {
		runtime.LockOSThread()
		fds <- connectOnThread(socket, w)
	}()
	fd := <-fds
	require.GreaterOrEqual(t, fd, 0)
	file := os.NewFile(uintptr(fd), socket)
	conn, err := net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UnixConn)
}
