// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// errTooLong is a message beyond the limit.
var errTooLong = errors.New("message too long")

// lineReader feeds a json.Decoder at most one line at a time, so that after malformed JSON the decoder has taken
// nothing from behind the line in which the error is, and the stream can go on there.
type lineReader struct {
	r    *bufio.Reader
	left int   // bytes that the current message may still take
	eol  bool  // what was read last ended a line
	err  error // of the last read from the connection
}

func (l *lineReader) init(r io.Reader) { l.r = bufio.NewReader(r) }

// Read implements io.Reader.
func (l *lineReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	if _, l.err = l.r.Peek(1); l.err != nil {
		return 0, l.err
	}
	line, _ := l.r.Peek(min(l.r.Buffered(), l.left, len(p))) // buffered: cannot fail
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	n := copy(p, line)
	_, _ = l.r.Discard(n) // buffered: cannot fail
	l.left -= n
	l.eol = n > 0 && p[n-1] == '\n'
	return n, nil
}

// discardLine skips what remains of the line from which was read last.
func (l *lineReader) discardLine() error {
	for !l.eol {
		_, err := l.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		l.eol = err == nil
	}
	return nil
}
