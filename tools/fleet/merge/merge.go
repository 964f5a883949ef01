// SPDX-License-Identifier: Apache-2.0

// Package merge merges capture files by time.
package merge

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/gopacket/pcapgo"

	"dpservice/capture/pcapng"
)

// Result says what was merged.
type Result struct {
	Packets    int
	Interfaces int
	Cut        []string // files whose end is missing, as after a crash of their writer
}

// Files writes the packets of pcapng files as one, by their times. Interfaces of the same name and comment become one,
// and so do those of one sender for which a sink had no name at first.
// In each file packets have to be in order already, as a sink writes them; equal times stay in the order of the files.
func Files(w io.Writer, comment string, names []string) (Result, error) {
	m := merger{
		writer:     pcapng.NewWriter(w, pcapng.Section{Application: "kubectl dpcapture", Comment: comment}),
		interfaces: map[pcapng.Interface]int{}, named: map[string]pcapng.Interface{},
	}
	defer m.close()
	for i, name := range names {
		if err := m.open(i, name); err != nil {
			return m.result, err
		}
	}
	for _, s := range m.all {
		if err := m.start(s); err != nil {
			return m.result, err
		}
	}
	for len(m.sources) > 0 {
		s := m.sources[0]
		err := m.writer.Packet(s.number, s.time, s.data, s.length)
		if err != nil {
			return m.result, err
		}
		m.result.Packets++
		switch more, err := m.next(s); {
		case err != nil:
			return m.result, err
		case more:
			heap.Fix(&m.sources, 0)
		default:
			heap.Pop(&m.sources)
		}
	}
	m.result.Interfaces = len(m.interfaces)
	return m.result, m.writer.Flush()
}

// merger is a merge in progress.
type merger struct {
	writer     *pcapng.Writer
	interfaces map[pcapng.Interface]int    // their numbers in the result
	named      map[string]pcapng.Interface // by the descriptions, which tell senders apart; without a name: several had it
	all        []*source
	files      []*os.File
	sources    sources
	result     Result
}

// source is a file, with the packet that comes next.
type source struct {
	index  int // orders packets of the same time
	name   string
	reader *pcapgo.NgReader
	known  map[int]int // the numbers of its interfaces, here and in the result

	number, length int
	time           int64 // nanoseconds since 1970
	data           []byte
}

func (m *merger) open(index int, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	cut, err := m.scan(f)
	if err != nil {
		return err
	}
	if cut {
		m.result.Cut = append(m.result.Cut, name)
	}
	s := &source{index: index, name: name, known: map[int]int{}}
	s.reader, err = pcapgo.NewNgReader(bufio.NewReaderSize(f, 1<<16), pcapgo.NgReaderOptions{
		WantMixedLinkType: true,
		SectionEndCallback: func([]pcapgo.NgInterface, pcapgo.NgSectionInfo) {
			clear(s.known) // the next one counts from 0 again
		},
	})
	if errors.Is(err, io.EOF) { // it was just begun
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	m.all = append(m.all, s)
	return nil
}

// start reads the first packet of a file.
func (m *merger) start(s *source) error {
	more, err := m.next(s)
	if more {
		heap.Push(&m.sources, s)
	}
	return err
}

// next reads the next packet of a file; more is false at its end.
func (m *merger) next(s *source) (more bool, err error) {
	data, info, err := s.reader.ReadPacketData()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // in the middle of a block, if the file is cut off
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", s.name, err)
	}
	number, ok := s.known[info.InterfaceIndex]
	if !ok {
		if number, err = m.add(s, info.InterfaceIndex); err != nil {
			return false, err
		}
		s.known[info.InterfaceIndex] = number
	}
	s.number, s.length, s.time, s.data = number, info.Length, info.Timestamp.UnixNano(), data
	return true, nil
}

// scan looks for the names of a file's senders, and reports whether it ends in the middle of a block.
func (m *merger) scan(f *os.File) (cut bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	const headLen, minLen, interfaceType, minInterfaceLen = 8, 12, 1, 20
	head := make([]byte, headLen)
	at := int64(0)
	for at < info.Size() {
		if _, err := f.ReadAt(head, at); errors.Is(err, io.EOF) {
			return true, nil
		} else if err != nil {
			return false, err
		}
		length := binary.LittleEndian.Uint32(head[4:])
		if length < minLen {
			return false, fmt.Errorf("%s: no pcapng file that a sink has written: a block of %d bytes", f.Name(), length)
		}
		if binary.LittleEndian.Uint32(head) == interfaceType && length >= minInterfaceLen && length <= maxInterfaceLen {
			block := make([]byte, length)
			if _, err := f.ReadAt(block, at); errors.Is(err, io.EOF) {
				return true, nil
			} else if err != nil {
				return false, err
			}
			m.learn(block)
		}
		at += int64(length)
	}
	return at > info.Size(), nil
}

// maxInterfaceLen is more than a sink's description of an interface has.
const maxInterfaceLen = 1 << 16

// learn keeps what an interface's block says of its sender, if the sink knew that. Whom the sink learned to know later
// had another interface before, without a comment.
func (m *merger) learn(block []byte) {
	const optionsAt, trailerLen, commentCode, nameCode, descriptionCode = 16, 4, 1, 2, 3
	var i pcapng.Interface
	for o := block[optionsAt : len(block)-trailerLen]; len(o) >= 4; {
		code, length := binary.LittleEndian.Uint16(o), int(binary.LittleEndian.Uint16(o[2:]))
		padded := (length + 3) &^ 3
		if o = o[4:]; code == 0 || padded > len(o) {
			break
		}
		switch text := string(o[:length]); code {
		case commentCode:
			i.Comment = text
		case nameCode:
			i.Name = text
		case descriptionCode:
			i.Description = text
		}
		o = o[padded:]
	}
	if i.Comment == "" {
		return
	}
	if other, ok := m.named[i.Description]; ok && other != i {
		i.Name = "" // the label was another interface's before
	}
	m.named[i.Description] = i
}

// add returns the number that an interface of a file has in the result.
func (m *merger) add(s *source, index int) (int, error) {
	from, err := s.reader.Interface(index)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	if from.LinkType != pcapng.LinkEthernet {
		return 0, fmt.Errorf("%s: its packets are not Ethernet's but %s", s.name, from.LinkType)
	}
	to := pcapng.Interface{Name: from.Name, Description: from.Description, Comment: from.Comment, SnapLen: from.SnapLength}
	if named := m.named[to.Description]; to.Comment == "" && named.Name != "" {
		to.Name, to.Comment = named.Name, named.Comment
	}
	number, ok := m.interfaces[to]
	if !ok {
		number = m.writer.AddInterface(to)
		m.interfaces[to] = number
	}
	return number, nil
}

func (m *merger) close() {
	for _, f := range m.files {
		_ = f.Close() // it was only read
	}
}

// sources are a heap: the first has the earliest packet.
type sources []*source

func (s sources) Len() int { return len(s) }

func (s sources) Less(i, j int) bool {
	if s[i].time != s[j].time {
		return s[i].time < s[j].time
	}
	return s[i].index < s[j].index
}

func (s sources) Swap(i, j int) { s[i], s[j] = s[j], s[i] }

// Push implements heap.Interface.
func (s *sources) Push(x any) { *s = append(*s, x.(*source)) }

// Pop implements heap.Interface.
func (s *sources) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}
