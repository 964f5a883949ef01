// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	"dpservice/dpservice/fault"
)

// Bounds of the memory that answers take until their clients have read them. A connection has one answer at a time.
const (
	maxAnswer   = 32 << 20 // bytes of an answer
	maxAnswers  = 64 << 20 // bytes of all large answers
	smallAnswer = 64 << 10 // answers up to here are not counted: there are no more than clients
	roomWait    = 5 * time.Second
)

// room is a budget of memory for answers, in bytes.
type room struct {
	sem  *semaphore.Weighted
	wait time.Duration
}

func newRoom(bytes int64) *room { return &room{semaphore.NewWeighted(bytes), roomWait} }

// holding is what one answer holds of the room.
type holding struct {
	room *room
	held int64
}

// resize changes the holding to the size of an answer. If there is not enough room after a while, the error is
// LimitReached.
func (s *holding) resize(ctx context.Context, bytes int) error {
	if bytes > maxAnswer {
		return fault.New(fault.LimitReached, "", "the answer has %d bytes, at most %d are allowed", bytes, maxAnswer)
	}
	want := int64(bytes)
	if want <= smallAnswer {
		want = 0
	}
	if want <= s.held {
		s.room.sem.Release(s.held - want)
		s.held = want
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.room.wait)
	defer cancel()
	if err := s.room.sem.Acquire(ctx, want-s.held); err != nil {
		return fault.New(fault.LimitReached, "", "too many large answers wait for their clients to read them")
	}
	s.held = want
	return nil
}

// release returns the holding to the room.
func (s *holding) release() {
	s.room.sem.Release(s.held)
	s.held = 0
}
