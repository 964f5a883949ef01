// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// hangups notices when clients hang up while their requests are carried out and nobody reads their connections. A
// client that has only closed its sending side still waits for answers: it has not hung up. Only EPOLLHUP distinguishes
// the two, and Go's own poller does not report it.
type hangups struct {
	epoll *os.File // watched by Go's poller, so that it blocks no thread
	raw   syscall.RawConn
	done  chan struct{}

	mu      sync.Mutex
	last    int32
	watched map[int32]func()
}

// watchHangups starts to watch; close ends it.
func watchHangups() (*hangups, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), unix.Close(fd))
	}
	h := &hangups{epoll: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), watched: map[int32]func(){}}
	if h.raw, err = h.epoll.SyscallConn(); err != nil {
		return nil, errors.Join(err, h.epoll.Close())
	}
	go h.run()
	return h, nil
}

// watch calls do, once, when the client hangs up. forget must be called before the connection is closed.
func (h *hangups) watch(conn *net.UnixConn, do func()) (forget func(), err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.last++
	id := h.last
	h.watched[id] = do
	h.mu.Unlock()
	forget = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watched, id)
	}
	var addErr error
	err = raw.Control(func(fd uintptr) {
		// The kernel forgets fd when it is closed.
		ctlErr := h.raw.Control(func(epoll uintptr) {
			addErr = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLET, Fd: id})
		})
		addErr = errors.Join(addErr, ctlErr)
	})
	if err = errors.Join(err, addErr); err != nil {
		forget()
		return nil, err
	}
	return forget, nil
}

func (h *hangups) run() {
	defer close(h.done)
	var events [16]unix.EpollEvent
	for {
		n := 0
		var waitErr error
		err := h.raw.Read(func(epoll uintptr) bool {
			n, waitErr = unix.EpollWait(int(epoll), events[:], 0)
			return n > 0 || waitErr != nil
		})
		if err != nil || waitErr != nil && !errors.Is(waitErr, unix.EINTR) {
			return // closed
		}
		for _, e := range events[:max(n, 0)] {
			if e.Events&unix.EPOLLHUP != 0 {
				h.call(e.Fd)
			}
		}
	}
}

func (h *hangups) call(id int32) {
	h.mu.Lock()
	do := h.watched[id]
	delete(h.watched, id)
	h.mu.Unlock()
	if do != nil {
		do()
	}
}

func (h *hangups) close() error {
	err := h.epoll.Close()
	<-h.done
	return err
}
