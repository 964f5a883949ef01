// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"os"
	"sync"
)

// relay carries what a worker put into a ring to a Go channel. The worker's eventfd wakes it through Go's poller; while
// the channel's reader is slow the ring fills up, and the worker is the one that counts it.
type relay[T any] struct {
	ch     chan T
	wakeup *os.File
	read   func() []T
	done   chan struct{}
	wg     sync.WaitGroup
}

// newRelay takes over the eventfd fd and starts relaying through a channel that holds so many.
func newRelay[T any](fd int, name string, size int, read func() []T) *relay[T] {
	r := &relay[T]{
		ch:     make(chan T, size),
		wakeup: os.NewFile(uintptr(fd), name),
		read:   read,
		done:   make(chan struct{}),
	}
	r.wg.Go(r.run)
	return r
}

func (r *relay[T]) run() {
	defer close(r.ch)
	var count [8]byte
	for {
		if _, err := r.wakeup.Read(count[:]); err != nil {
			return // closed
		}
		for batch := r.read(); len(batch) > 0; batch = r.read() {
			if !r.deliver(batch) {
				return
			}
		}
	}
}

func (r *relay[T]) deliver(batch []T) bool {
	for _, v := range batch {
		select {
		case r.ch <- v:
		case <-r.done:
			return false
		}
	}
	return true
}

// close ends the relay; what it has not delivered is lost. It is called once.
func (r *relay[T]) close() error {
	close(r.done)
	err := r.wakeup.Close()
	r.wg.Wait()
	return err
}
