// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	socketMode = 0o660
	dirMode    = 0o755

	// maxPath is the longest path in bytes that fits into struct sockaddr_un with its final zero.
	maxPath = len(unix.RawSockaddrUnix{}.Path) - 1

	// lockWait is how long another daemon may take to open a socket in the same directory.
	lockWait = 2 * time.Second
)

// Listener listens on a unix socket. Close removes the socket file. It is a net.Listener.
type Listener struct {
	l     *net.UnixListener
	path  string
	inode os.FileInfo // of the socket file
	once  sync.Once
	err   error // of Close
}

// Listen opens a unix socket to which owner and group may connect. It creates a missing directory below the system's
// runtime directory. It replaces the socket file of a dead daemon; a daemon that listens there is an error.
func Listen(path string) (*Listener, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return l, nil
}

func listen(path string) (*Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("the path is longer than %d bytes", maxPath)
	}
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	return bind(path)
}

// runtimeDirs are the names of the system's runtime directory, the first one and its old name.
var runtimeDirs = []string{"/run", "/var/run"}

// makeDir makes a directory that is missing, if it is below the runtime directory, where no link leads out of it.
func makeDir(dir string) error {
	_, err := os.Stat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, runtime := range runtimeDirs {
		below, err := filepath.Rel(runtime, filepath.Clean(dir))
		if err != nil || !filepath.IsLocal(below) {
			continue
		}
		root, err := os.OpenRoot(runtime)
		if err != nil {
			return err
		}
		return errors.Join(root.MkdirAll(below, dirMode), root.Close())
	}
	return fmt.Errorf("there is no directory %s, and only those below %s are made", dir, runtimeDirs[0])
}

// lockDir makes daemons that start at the same time check the socket one after the other. Otherwise both would find it
// stale, and the second would remove the first one's new socket.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // which unlocks
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}

// removeStale removes the socket file of a dead daemon.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the file exists and is not a socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close() // nothing was written
		return errors.New("another daemon is listening there")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot tell whether another daemon is listening there: %w", err)
	}
	return os.Remove(path)
}

// bind listens on path. At no moment can anybody else than owner and group connect.
func bind(path string) (*Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmodErr error
		err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), socketMode) }) // the file inherits it
		return errors.Join(err, chmodErr)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false) // Close first checks whose file it is
	err = os.Chmod(path, socketMode)
	info, statErr := os.Lstat(path)
	if err = errors.Join(err, statErr); err != nil {
		return nil, errors.Join(err, ul.Close(), os.Remove(path))
	}
	return &Listener{l: ul, path: path, inode: info}, nil
}

func (l *Listener) accept() (*net.UnixConn, error) { return l.l.AcceptUnix() }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) { return l.l.Accept() }

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.l.Addr() }

// Close stops listening and removes the socket file, unless it is another daemon's by now.
func (l *Listener) Close() error {
	l.once.Do(func() {
		info, err := os.Lstat(l.path)
		if err == nil && os.SameFile(info, l.inode) {
			l.err = os.Remove(l.path)
		}
		l.err = errors.Join(l.err, l.l.Close())
	})
	return l.err
}
