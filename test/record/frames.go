// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Frame is one recorded Ethernet frame.
type Frame struct {
	Time time.Time
	Data []byte
}

// String returns the frame's layers and length, for messages.
func (f Frame) String() string {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
	parts := []string{f.Time.Format("15:04:05.000000")}
	for _, l := range p.Layers() {
		part := l.LayerType().String()
		if flow, ok := flowOf(l); ok {
			part += " " + flow
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " / ") + fmt.Sprintf(" (%d bytes)", len(f.Data))
}

func flowOf(l gopacket.Layer) (string, bool) {
	switch l := l.(type) {
	case gopacket.LinkLayer:
		return l.LinkFlow().String(), true
	case gopacket.NetworkLayer:
		return l.NetworkFlow().String(), true
	case gopacket.TransportLayer:
		return l.TransportFlow().String(), true
	}
	return "", false
}

// Read reads a pcap file. It ignores a last frame that is not written completely yet.
func Read(file string) ([]Frame, error) { return readCut(file, 0) }

// readCut reads a pcap file in which each frame is `cut` bytes shorter than its stated length.
func readCut(file string, cut int) ([]Frame, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading a recording: %w", err)
	}
	defer func() { _ = f.Close() }()
	r, err := pcapgo.NewReader(bufio.NewReader(f))
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if r.LinkType() != layers.LinkTypeEthernet {
		return nil, fmt.Errorf("reading %s: its frames are %s, not Ethernet", file, r.LinkType())
	}
	var frames []Frame
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return frames, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		if info.CaptureLength+cut != info.Length {
			return nil, fmt.Errorf("reading %s: a frame of %d bytes was cut to %d", file, info.Length, info.CaptureLength)
		}
		frames = append(frames, Frame{Time: info.Timestamp, Data: data})
	}
}

// Between returns the frames that were recorded between from and to.
func Between(frames []Frame, from, to time.Time) []Frame {
	return Filter(frames, func(f Frame) bool { return !f.Time.Before(from) && !f.Time.After(to) })
}

// Filter returns the frames for which keep returns true.
func Filter(frames []Frame, keep func(Frame) bool) []Frame {
	var kept []Frame
	for _, f := range frames {
		if keep(f) {
			kept = append(kept, f)
		}
	}
	return kept
}

// Missing returns the frames of want that got lacks. Frames are compared byte for byte, and counted.
func Missing(want, got []Frame) []Frame {
	count := make(map[string]int, len(got))
	for _, f := range got {
		count[string(f.Data)]++
	}
	return Filter(want, func(f Frame) bool {
		count[string(f.Data)]--
		return count[string(f.Data)] < 0
	})
}

// Check compares the copies of a capture with a recording of their originals. The capture certainly ran between Started
// and Stopping, so every original of that period must have one copy. It certainly did not run before Starting or after
// Stopped, so every copy must be of an original between these.
func Check(copies, originals []Frame, w Window) error {
	inside := Between(originals, w.Started, w.Stopping)
	possible := Between(originals, w.Starting, w.Stopped)
	var errs []error
	if missing := Missing(inside, copies); len(missing) > 0 {
		errs = append(errs, fmt.Errorf("%d of %d frames have no copy: %s", len(missing), len(inside), list(missing)))
	}
	if extra := Missing(copies, possible); len(extra) > 0 {
		errs = append(errs, fmt.Errorf("%d of %d copies have no original: %s", len(extra), len(copies), list(extra)))
	}
	return errors.Join(errs...)
}

// Window is when a capture was started and stopped: the begin and the return of each call.
type Window struct {
	Starting, Started, Stopping, Stopped time.Time
}

// list returns the first few frames as text.
func list(frames []Frame) string {
	const most = 5
	var lines []string
	for _, f := range frames[:min(most, len(frames))] {
		lines = append(lines, f.String())
	}
	if len(frames) > most {
		lines = append(lines, "...")
	}
	return strings.Join(slices.Concat([]string{""}, lines), "\n  ")
}
