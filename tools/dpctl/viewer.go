// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// decoders are what can turn packets into lines: the best that is installed, tcpdump, tshark, or dpctl itself.
var decoders = []string{"auto", "tcpdump", "tshark", "plain"}

// commands are the decoders that are programs. They read a pcap file from stdin, and begin each packet with its number.
// Further lines of a packet begin with a tab.
var commands = map[string][]string{
	"tcpdump": {"tcpdump", "-l", "-n", "--number", "-r", "-"},
	"tshark":  {"tshark", "-l", "-n", "-t", "a", "-r", "-"},
}

const (
	// maxLine bounds a line of a decoder, and maxComplaint what is kept of its stderr.
	maxLine      = 1 << 20
	maxComplaint = 4096
	// decoderGrace is how long a decoder may take to show what it has read.
	decoderGrace = 10 * time.Second
	snapLen      = 256 << 10
)

// viewer shows the packets of a pcapng stream as lines, as they come.
type viewer struct {
	in, stream *os.File // the stream's ends: where it is written, and where the viewer reads it
	out        io.Writer
	decoder    string
	pointOf    func(name string) string // what people call an interface of the stream
	end        context.CancelCauseFunc  // ends what writes the stream
	done       chan error
	width      int // of the widest point that was shown
}

// newViewer returns a viewer that reads what is written to in. Close must be called.
func newViewer(decoder string, out io.Writer, pointOf func(string) string, end context.CancelCauseFunc) (*viewer,
	error) {
	if decoder == "auto" {
		decoder = "plain"
		for _, name := range []string{"tshark", "tcpdump"} { // the last one that is installed
			if _, err := exec.LookPath(name); err == nil {
				decoder = name
			}
		}
	}
	if argv, ok := commands[decoder]; ok {
		if _, err := exec.LookPath(argv[0]); err != nil {
			return nil, fmt.Errorf("--show=%s: %w", decoder, err)
		}
	}
	stream, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &viewer{in: in, stream: stream, out: out, decoder: decoder, pointOf: pointOf, end: end}, nil
}

// start begins to show packets.
func (v *viewer) start() {
	v.done = make(chan error, 1)
	go func() {
		err := v.run()
		if err != nil {
			v.end(failure{err})
		} else {
			v.end(nil)
		}
		_ = v.stream.Close() // the writer sees that nobody reads it
		v.done <- err
	}()
}

// close ends the stream, and waits until its packets are shown.
func (v *viewer) close() error {
	_ = v.in.Close() // what was written to it is in the pipe
	if v.done == nil {
		return v.stream.Close()
	}
	return <-v.done
}

// run shows packets until the stream ends, or nobody reads the output.
func (v *viewer) run() error {
	r, err := pcapgo.NewNgReader(v.stream, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		return fmt.Errorf("reading the packets: %w", err)
	}
	show, finish := v.showPlain, func() error { return nil }
	if argv, ok := commands[v.decoder]; ok {
		d, err := v.startDecoder(argv)
		if err != nil {
			return err
		}
		show, finish = d.show, d.finish
	}
	for {
		frame, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the writer has given up a block
			return ignoreUnread(finish())
		}
		if err == nil {
			err = v.showOf(r, frame, info, show)
		}
		if err != nil {
			return ignoreUnread(errors.Join(err, finish()))
		}
	}
}

func (v *viewer) showOf(r *pcapgo.NgReader, frame []byte, info gopacket.CaptureInfo,
	show func(point string, frame []byte, info gopacket.CaptureInfo) error) error {
	i, err := r.Interface(info.InterfaceIndex)
	if err != nil {
		return fmt.Errorf("reading the packets: %w", err)
	}
	return show(v.pointOf(i.Name), frame, info)
}

// ignoreUnread drops the error of a write to somebody who does not read any more, as to head(1).
func ignoreUnread(err error) error {
	if errors.Is(err, errUnread) {
		return nil
	}
	return err
}

var errUnread = errors.New("nobody reads the output")

// print prints a line of a packet.
func (v *viewer) print(point, line string) error {
	v.width = max(v.width, len(point))
	_, err := fmt.Fprintf(v.out, "%-*s  %s\n", v.width, point, line)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EIO) { // a pipe, or a terminal that is gone
		return errUnread
	}
	return err
}

// showPlain shows a packet without the help of a program.
func (v *viewer) showPlain(point string, frame []byte, info gopacket.CaptureInfo) error {
	return v.print(point, info.Timestamp.Local().Format("15:04:05.000000")+" "+essence(frame, info.Length))
}

// essence is what a line can tell of a frame: addresses, protocols, ports, flags and length.
func essence(frame []byte, length int) string {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	var text bytes.Buffer
	for _, layer := range p.Layers() {
		switch l := layer.(type) {
		case *layers.Ethernet:
			if l.EthernetType != layers.EthernetTypeIPv4 && l.EthernetType != layers.EthernetTypeIPv6 {
				fmt.Fprintf(&text, "%s > %s, ", l.SrcMAC, l.DstMAC)
			}
		case *layers.Dot1Q:
			fmt.Fprintf(&text, "VLAN %d, ", l.VLANIdentifier)
		case *layers.IPv4:
			fmt.Fprintf(&text, "IP %s > %s, ", l.SrcIP, l.DstIP)
		case *layers.IPv6:
			fmt.Fprintf(&text, "IP6 %s > %s, ", l.SrcIP, l.DstIP)
		case *layers.ARP:
			fmt.Fprintf(&text, "ARP %s, ", arpText(l))
		case *layers.TCP:
			fmt.Fprintf(&text, "TCP %d > %d [%s], ", uint16(l.SrcPort), uint16(l.DstPort), tcpFlags(l))
		case *layers.UDP:
			fmt.Fprintf(&text, "UDP %d > %d, ", uint16(l.SrcPort), uint16(l.DstPort))
		case *layers.ICMPv4:
			fmt.Fprintf(&text, "ICMP %s, ", l.TypeCode)
		case *layers.ICMPv6:
			fmt.Fprintf(&text, "ICMP6 %s, ", l.TypeCode)
		}
	}
	fmt.Fprintf(&text, "%d bytes", length)
	return text.String()
}

func arpText(l *layers.ARP) string {
	const ipv4Len = 4
	if len(l.SourceProtAddress) != ipv4Len || len(l.DstProtAddress) != ipv4Len {
		return fmt.Sprintf("operation %d", l.Operation)
	}
	sender, target := netipText(l.SourceProtAddress), netipText(l.DstProtAddress)
	if l.Operation == layers.ARPRequest {
		return fmt.Sprintf("who has %s, tell %s", target, sender)
	}
	return fmt.Sprintf("%s is at %x", sender, l.SourceHwAddress)
}

func netipText(b []byte) string { return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3]) }

// tcpFlags are the flags in tcpdump's letters.
func tcpFlags(l *layers.TCP) string {
	text := ""
	for _, flag := range []struct {
		set    bool
		letter string
	}{{l.SYN, "S"}, {l.FIN, "F"}, {l.RST, "R"}, {l.PSH, "P"}, {l.ACK, "."}, {l.URG, "U"}} {
		if flag.set {
			text += flag.letter
		}
	}
	return text
}

// decoder is a program that turns packets into lines.
type decoder struct {
	viewer *viewer
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	writer *pcapgo.Writer
	stderr complaint
	number int // of the last packet
	shown  chan error

	finished bool

	mu      sync.Mutex
	pending []pending // packets whose lines may still come, in order
}

// pending is a packet that the decoder knows by its number.
type pending struct {
	number int
	point  string
}

// startDecoder starts a decoder. It ends when its input does, so also when this process is killed.
func (v *viewer) startDecoder(argv []string) (*decoder, error) {
	d := &decoder{viewer: v, cmd: exec.Command(argv[0], argv[1:]...), shown: make(chan error, 1)}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us: it still shows what it has read
	d.cmd.Stderr = &d.stderr
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	go func() { d.shown <- d.copy(stdout) }()
	d.writer = pcapgo.NewWriterNanos(d.stdin)
	if err := d.writer.WriteFileHeader(snapLen, layers.LinkTypeEthernet); err != nil {
		return nil, d.failed(err)
	}
	return d, nil
}

// show has the decoder show a packet.
func (d *decoder) show(point string, frame []byte, info gopacket.CaptureInfo) error {
	d.number++
	d.mu.Lock()
	d.pending = append(d.pending, pending{d.number, point})
	d.mu.Unlock()
	if err := d.writer.WritePacket(info, frame); err != nil {
		return d.failed(err)
	}
	return nil
}

// failed explains why the decoder does not read any more. If nobody reads what it shows, that is why.
func (d *decoder) failed(err error) error {
	if unread := d.finish(); unread != nil {
		return unread
	}
	return fmt.Errorf("%s has ended: %w: %s", d.cmd.Path, err, d.stderr.String())
}

// numbered is a line that begins a packet.
var numbered = regexp.MustCompile(`^ *(\d+) +(.*)$`)

// copy prints the lines of the decoder, each with the interface of its packet.
func (d *decoder) copy(stdout io.ReadCloser) error {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, maxLine)
	point := ""
	for lines.Scan() {
		line := lines.Text()
		if match := numbered.FindStringSubmatch(line); match != nil {
			if number, err := strconv.Atoi(match[1]); err == nil {
				point, line = d.point(number), match[2]
			}
		}
		if err := d.viewer.print(point, line); err != nil {
			_ = stdout.Close() // the decoder ends with its next line
			return err
		}
	}
	return lines.Err()
}

// point returns the point of a packet, and forgets those before it.
func (d *decoder) point(number int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.pending) > 0 && d.pending[0].number < number {
		d.pending = d.pending[1:]
	}
	if len(d.pending) > 0 && d.pending[0].number == number {
		return d.pending[0].point
	}
	return ""
}

// finish lets the decoder show what it has read, and waits for its end. It may be called again.
func (d *decoder) finish() error {
	if d.finished {
		return nil
	}
	d.finished = true
	_ = d.stdin.Close() // it may have ended
	timer := time.AfterFunc(decoderGrace, func() { _ = d.cmd.Process.Kill() })
	defer timer.Stop()
	err := <-d.shown
	_ = d.cmd.Wait() // what it could not show was said by show
	return err
}

// complaint keeps the beginning of what a program writes to stderr.
type complaint struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (c *complaint) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(p[:min(len(p), maxComplaint-c.text.Len())])
	return len(p), nil
}

func (c *complaint) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(bytes.TrimSpace(c.text.Bytes()))
}
