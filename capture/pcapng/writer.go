// SPDX-License-Identifier: Apache-2.0

// Package pcapng writes capture files in the pcapng format: one section, little endian, times in nanoseconds.
//
// The package exists since pcapgo.NgWriter of gopacket lacks some features: it has no option for packets that the
// operating system dropped, it does not report its size, it writes incomplete blocks, so that a truncated file cannot
// be read to its end, and a text that is too long for an option makes the file unreadable. BenchmarkWriter compares
// both.
package pcapng

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"
)

// LinkEthernet is the link type of Ethernet frames.
const LinkEthernet = 1

// MaxPacket is the largest number of bytes of a packet that can be written. It is the limit of Wireshark.
const MaxPacket = 262144

// maxOption limits the text of an option, whose length has 16 bits.
const maxOption = 4096

// bufferSize is how many bytes are collected before they are written. It is small enough to leave room for other data
// in the cache of a CPU.
const bufferSize = 1 << 18

const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6

	byteOrderMagic = 0x1a2b3c4d
)

// Options of blocks. The numbers are specific to the type of block, except for the first two.
const (
	optEnd     = 0
	optComment = 1

	optSectionHardware    = 2
	optSectionOS          = 3
	optSectionApplication = 4

	optInterfaceName        = 2
	optInterfaceDescription = 3
	optInterfaceResolution  = 9

	optStatisticsStart    = 2
	optStatisticsEnd      = 3
	optStatisticsReceived = 4
	optStatisticsOSDrop   = 7
)

// Section describes where a file comes from. Empty fields are not written.
type Section struct {
	Hardware    string
	OS          string
	Application string
	Comment     string
}

// Interface describes an interface of the section.
type Interface struct {
	Name        string
	Description string
	Comment     string
	SnapLen     uint32 // 0 means no limit
}

// Statistics are the counters of an interface.
type Statistics struct {
	Start, End time.Time
	Received   uint64 // packets
	Dropped    uint64 // packets that the operating system dropped
}

// Writer writes one section. It writes its buffer when that is full, and in Flush. After an error it writes nothing
// more, returns the same error from each call, and does not modify the bytes that it was writing. It is not safe for
// concurrent use.
type Writer struct {
	w          io.Writer
	buf        []byte
	written    int64
	interfaces int
	err        error
}

// NewWriter begins a section.
func NewWriter(w io.Writer, s Section) *Writer {
	p := &Writer{w: w, buf: make([]byte, 0, bufferSize+MaxPacket)}
	start := p.begin(blockSection)
	p.u32(byteOrderMagic)
	p.u16(1) // version 1.0
	p.u16(0)
	p.u64(^uint64(0)) // unknown length of the section
	p.text(optSectionHardware, s.Hardware)
	p.text(optSectionOS, s.OS)
	p.text(optSectionApplication, s.Application)
	p.text(optComment, s.Comment)
	p.end(start)
	return p
}

// AddInterface describes an interface and returns its number.
func (p *Writer) AddInterface(i Interface) int {
	start := p.begin(blockInterface)
	p.u16(LinkEthernet)
	p.u16(0)
	p.u32(i.SnapLen)
	p.text(optInterfaceName, i.Name)
	p.text(optInterfaceDescription, i.Description)
	p.text(optComment, i.Comment)
	p.option(optInterfaceResolution, []byte{9}) // 10^-9 s
	p.end(start)
	p.interfaces++
	return p.interfaces - 1
}

// Packet writes a packet of an interface. The original packet had length bytes, and data is the first part of it. The
// time is in nanoseconds since 1970.
func (p *Writer) Packet(number int, at int64, data []byte, length int) error {
	if err := p.check(number, data, length); err != nil {
		return err
	}
	const headLen, tailLen = 28, 4
	block := headLen + (len(data)+3)&^3 + tailLen
	b := p.extend(block)
	binary.LittleEndian.PutUint32(b, blockPacket)
	binary.LittleEndian.PutUint32(b[4:], uint32(block))
	binary.LittleEndian.PutUint32(b[8:], uint32(number))
	binary.LittleEndian.PutUint32(b[12:], uint32(at>>32))
	binary.LittleEndian.PutUint32(b[16:], uint32(at))
	binary.LittleEndian.PutUint32(b[20:], uint32(len(data)))
	binary.LittleEndian.PutUint32(b[24:], uint32(length))
	clear(b[headLen+copy(b[headLen:], data):])
	binary.LittleEndian.PutUint32(b[block-tailLen:], uint32(block))
	return p.flushIfFull()
}

// CommentedPacket is Packet with a comment, which Wireshark shows with the packet.
func (p *Writer) CommentedPacket(number int, at int64, data []byte, length int, comment string) error {
	if err := p.check(number, data, length); err != nil {
		return err
	}
	start := p.begin(blockPacket)
	p.u32(uint32(number))
	p.time(at)
	p.u32(uint32(len(data)))
	p.u32(uint32(length))
	p.padded(data)
	p.text(optComment, comment)
	p.end(start)
	return p.flushIfFull()
}

func (p *Writer) check(number int, data []byte, length int) error {
	if number < 0 || number >= p.interfaces {
		return fmt.Errorf("pcapng: there is no interface %d", number)
	}
	if len(data) > MaxPacket || length < len(data) {
		return fmt.Errorf("pcapng: %d bytes of a packet of %d", len(data), length)
	}
	return nil
}

func (p *Writer) flushIfFull() error {
	if len(p.buf) >= bufferSize {
		return p.Flush()
	}
	return p.err
}

// Statistics writes the counters of an interface, as of s.End.
func (p *Writer) Statistics(number int, s Statistics) {
	start := p.begin(blockStatistics)
	p.u32(uint32(number))
	p.time(s.End.UnixNano())
	p.option(optStatisticsStart, timestamp(s.Start))
	p.option(optStatisticsEnd, timestamp(s.End))
	p.option(optStatisticsReceived, binary.LittleEndian.AppendUint64(nil, s.Received))
	p.option(optStatisticsOSDrop, binary.LittleEndian.AppendUint64(nil, s.Dropped))
	p.end(start)
}

// Flush writes the buffer.
func (p *Writer) Flush() error {
	if p.err == nil && len(p.buf) > 0 {
		_, p.err = p.w.Write(p.buf)
		p.written += int64(len(p.buf))
		p.buf = p.buf[:0]
		if p.err != nil {
			p.buf = nil // a write that the caller has given up on may still read it
		}
	}
	return p.err
}

// Size returns the length of the section so far, including the buffer.
func (p *Writer) Size() int64 { return p.written + int64(len(p.buf)) }

// Description returns those of some whole blocks that say what the rest means, the section's and the interfaces', and
// counts the packets.
func Description(blocks []byte) (description []byte, packets int) {
	const headLen = 8
	for len(blocks) >= headLen {
		length := binary.LittleEndian.Uint32(blocks[4:])
		switch binary.LittleEndian.Uint32(blocks) {
		case blockSection, blockInterface:
			description = append(description, blocks[:length]...)
		case blockPacket:
			packets++
		}
		blocks = blocks[length:]
	}
	return description, packets
}

// extend appends room for length bytes to the buffer and returns it. The content is undefined.
func (p *Writer) extend(length int) []byte {
	if p.err != nil {
		p.buf = p.buf[:0] // the bytes will not be written
	}
	start := len(p.buf)
	p.buf = slices.Grow(p.buf, length)[:start+length]
	return p.buf[start:]
}

// begin begins a block and returns its offset in the buffer.
func (p *Writer) begin(kind uint32) int {
	p.extend(0)
	start := len(p.buf)
	p.u32(kind)
	p.u32(0) // end sets the length
	return start
}

// end completes a block that has options.
func (p *Writer) end(start int) {
	p.u16(optEnd)
	p.u16(0)
	p.endBlock(start)
}

func (p *Writer) endBlock(start int) {
	length := uint32(len(p.buf) - start + 4)
	binary.LittleEndian.PutUint32(p.buf[start+4:], length)
	p.u32(length)
}

func (p *Writer) text(code uint16, s string) {
	if s != "" {
		p.option(code, []byte(s[:min(len(s), maxOption)]))
	}
}

func (p *Writer) option(code uint16, value []byte) {
	p.u16(code)
	p.u16(uint16(len(value)))
	p.padded(value)
}

// padded writes bytes, and zeros up to a multiple of 4.
func (p *Writer) padded(b []byte) {
	p.buf = append(p.buf, b...)
	p.buf = append(p.buf, 0, 0, 0)[:len(p.buf)+-len(b)&3]
}

func (p *Writer) time(ns int64) {
	p.u32(uint32(ns >> 32))
	p.u32(uint32(ns))
}

func timestamp(t time.Time) []byte {
	ns := t.UnixNano()
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(ns>>32)), uint32(ns))
}

func (p *Writer) u16(v uint16) { p.buf = binary.LittleEndian.AppendUint16(p.buf, v) }
func (p *Writer) u32(v uint32) { p.buf = binary.LittleEndian.AppendUint32(p.buf, v) }
func (p *Writer) u64(v uint64) { p.buf = binary.LittleEndian.AppendUint64(p.buf, v) }
