// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// identifier is the journal's name for the audit log: journalctl -t dpservice-audit.
const identifier = "dpservice-audit"

// fileMode lets nobody but root and the daemon's user read what the guests' networks are.
const fileMode = 0o600

// output is where records are written, as lines of JSON.
type output struct {
	handler slog.Handler
	close   func() error
}

// end closes the output, if there is one.
func (o *output) end() error {
	if o == nil {
		return nil
	}
	return o.close()
}

func open(target string) (*output, error) {
	if target == Journal {
		if !journal.Enabled() {
			return nil, errors.New("audit: there is no journal here; give the path of a file")
		}
		return &output{slog.NewJSONHandler(toJournal{}, nil), func() error { return nil }}, nil
	}
	// A file that is none, such as a pipe, could block for ever.
	f, err := os.OpenFile(target, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NONBLOCK, fileMode)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("audit: %s is no regular file", target)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &output{slog.NewJSONHandler(&lines{file: f}, nil), f.Close}, nil
}

// lines writes whole lines. What is left of a line for which there was no room on the disk ends before the next one.
type lines struct {
	file   io.Writer
	broken bool
}

// Write implements io.Writer.
func (l *lines) Write(line []byte) (int, error) {
	if l.broken {
		if _, err := l.file.Write([]byte("\n")); err != nil {
			return 0, err
		}
		l.broken = false
	}
	n, err := l.file.Write(line)
	l.broken = err != nil && n > 0
	return n, err
}

// toJournal writes lines to the journal.
type toJournal struct{}

// Write implements io.Writer.
func (toJournal) Write(line []byte) (int, error) {
	err := journal.Send(string(line[:len(line)-1]), journal.PriNotice, map[string]string{"SYSLOG_IDENTIFIER": identifier})
	if err != nil {
		return 0, err
	}
	return len(line), nil
}
