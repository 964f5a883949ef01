// SPDX-License-Identifier: Apache-2.0

// Package record records frames with tcpdump in a lab's namespaces, reads them, compares them byte for byte, and
// decodes them with Wireshark's tools.
package record

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"syscall"
	"time"

	"dpservice/test/topology"
)

const (
	readyTimeout = 10 * time.Second
	stopTimeout  = 10 * time.Second
	// settled is how long a recording must not grow before it counts as complete.
	settled = 200 * time.Millisecond
	// settleTimeout limits the wait when traffic continues: the recording then ends at an arbitrary frame.
	settleTimeout = 600 * time.Millisecond
	// bufferKiB is tcpdump's ring in the kernel, large enough that a busy machine loses nothing.
	bufferKiB = "16384"
)

// Direction is the direction of the frames to record, from the view of the namespace's kernel.
type Direction string

// The directions tcpdump knows.
const (
	In   Direction = "in"
	Out  Direction = "out"
	Both Direction = "inout"
)

// Recorder is a running tcpdump.
type Recorder struct {
	File    string
	process *topology.Process
}

// Args returns the command line of tcpdump for a recording of device into file. tcpdump writes unbuffered, so that all
// recorded frames are in the file, and stays root, so that it can write there.
func Args(device, file string, dir Direction, filter string) []string {
	argv := []string{"tcpdump", "-n", "-i", device, "-Q", string(dir), "-U", "--immediate-mode", "-B", bufferKiB,
		"-Z", "root", "-w", file}
	if filter != "" {
		argv = append(argv, filter)
	}
	return argv
}

// Start records the frames on device in the namespace that match filter (tcpdump's syntax; empty: all) into file. It
// returns when the recording runs.
func Start(ctx context.Context, ns *topology.Namespace, device, file string, dir Direction, filter string) (*Recorder,
	error) {
	p, err := ns.Start(Args(device, file, dir, filter)...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := p.WaitOutput(ctx, p.Stderr, "listening on"); err != nil {
		return nil, fmt.Errorf("recording %s in %s: %w", device, ns.Name, err)
	}
	return &Recorder{File: file, process: p}, nil
}

var droppedLine = regexp.MustCompile(`(?m)^(\d+) packets? dropped by (kernel|interface)`)

// Stop waits until the recording has stopped growing, ends it, and returns its frames. It returns an error if tcpdump
// has lost frames.
func (r *Recorder) Stop(ctx context.Context) ([]Frame, error) {
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	result, err := r.process.Stop(ctx, syscall.SIGINT)
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("ending the recording %s: %w", r.File, err)
	}
	for _, m := range droppedLine.FindAllStringSubmatch(result.Stderr, -1) {
		if m[1] != "0" {
			return nil, fmt.Errorf("the recording %s has holes: %s", r.File, m[0])
		}
	}
	return Read(r.File)
}

// Frames returns the frames that have been recorded so far.
func (r *Recorder) Frames() ([]Frame, error) { return Read(r.File) }

// settle waits until the file stops growing, or until settleTimeout.
func (r *Recorder) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	size, since := int64(-1), time.Now()
	err := topology.Until(ctx, func() error {
		info, err := os.Stat(r.File)
		if err != nil {
			return topology.Permanent(fmt.Errorf("looking at the recording: %w", err))
		}
		if info.Size() != size {
			size, since = info.Size(), time.Now()
		}
		if time.Since(since) < settled {
			return errGrowing
		}
		return nil
	})
	if errors.Is(err, errGrowing) {
		return nil
	}
	return err
}

var errGrowing = errors.New("the recording still grows")
