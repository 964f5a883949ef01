// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"dpservice/capture/receive"
	"dpservice/capture/receive/privilege"
	"dpservice/wire"
)

// receiveFlags are the flags of dpctl capture receive.
type receiveFlags struct {
	port                     uint16
	listen, encap, file      string
	user                     string
	names, sources           []string
	rotateSize, buffer       size
	rotateInterval, duration time.Duration
	files                    int
	packets                  uint64
	stats                    bool
	serve                    string
	ring                     ringFlag
	triggers                 []string
}

func (a *app) captureReceive() *cobra.Command {
	var f receiveFlags
	cmd := &cobra.Command{
		Use:   "receive --udp-dst-port=N -w FILE|-",
		Short: "Receive copies at the sink, and write the frames in them to pcapng files",
		Long: `Receive the copies that arrive on a UDP port of this machine, and write the frames in them to a pcapng file. Every
interface that copies come from is an interface of the file, with its name if the daemon's socket is at hand or --name
tells it. It ends on Ctrl-C, SIGTERM, SIGHUP, at a limit, or when nobody reads its output any more; the file is then
complete. Neither DPDK nor a daemon is needed. With CAP_NET_RAW, as root, it takes more copies per second; it gives that up,
and all that root may do, once it receives.

A file is its owner's alone. One that belongs to others is not written to, and no symbolic link is followed.

With --rotate-size or --rotate-interval a series of files is written: FILE_00001_20261124120000.pcapng and so on.

With --serve others read along at a unix socket, each from its connection on.

With --ring it is a flight recorder: the newest copies stay in memory, and go to a file of the series, with what happened before
somebody looked, on SIGUSR1, dpctl capture dump, or a POST to /dump at a --trigger, as Alertmanager's webhooks do.`,
		Example: `  dpctl capture receive --udp-dst-port=3010 -w test.pcapng
  dpctl capture receive --udp-dst-port=3010 -w - | tshark -r -
  dpctl capture receive --udp-dst-port=3010 -w day.pcapng --rotate-size=1G --files=24 --name=7=vm-1
  dpctl capture receive --udp-dst-port=3010 -w test.pcapng --serve=unix:/run/live.sock
  dpctl capture receive --udp-dst-port=3010 -w fault.pcapng --ring=60s,1G --trigger=http://127.0.0.1:9119`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.config(a, cmd)
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if c.Memory != (receive.Memory{}) {
				t, err := openTriggers(f.triggers, cmd.ErrOrStderr())
				if err != nil {
					return failure{err}
				}
				defer t.close()
				c.Dumps = t.dumps
			}
			if c.Serve, err = openAudience(f.serve); err != nil {
				return err
			}
			if c.Serve != nil {
				defer c.Serve.Close()
			}
			counters, err := receive.Run(ctx, c)
			if err != nil {
				return failure{err}
			}
			inTime(func() { f.summarise(cmd.ErrOrStderr(), counters, c.Serve) })
			return nil
		},
	}
	flags := cmd.Flags()
	flags.Uint16Var(&f.port, "udp-dst-port", 0,
		"UDP port that the copies are sent to (required; with --encap=vxlan the default is 4789)")
	flags.StringVar(&f.listen, "listen", "::", "this machine's IPv6 address that they are sent to")
	flags.StringVarP(&f.file, "write", "w", "", "file to write, - for stdout (required)")
	flags.StringVar(&f.encap, "encap", "udp", `how copies are wrapped, "udp" or "vxlan"`)
	flags.StringSliceVar(&f.sources, "source", nil,
		"take copies only of these nodes: IPv6 addresses, or networks such as fc00:1::/64")
	flags.StringSliceVar(&f.names, "name", nil, "names of interfaces: LABEL=NAME, or NODE/LABEL=NAME for one node's")
	flags.StringVar(&f.user, "user", "",
		"as root, whom to become once copies are taken (default nobody, unless he cannot write a series of files)")
	flags.Var(&f.rotateSize, "rotate-size", "begin a new file at this size, for example 100M")
	flags.DurationVar(&f.rotateInterval, "rotate-interval", 0, "begin a new file after this time, for example 1h")
	flags.IntVar(&f.files, "files", 0, "keep so many files of a series, the newest (default all)")
	flags.Uint64Var(&f.packets, "packets", 0, "end after so many copies")
	flags.DurationVar(&f.duration, "duration", 0, "end after this time, for example 30s")
	f.buffer = receive.DefaultBuffer
	flags.Var(&f.buffer, "buffer", "what the kernel may hold until it is written, for example 512M")
	flags.StringVar(&f.serve, "serve", "", "let others read along at a socket, unix:PATH")
	flags.Var(&f.ring, "ring", "keep the newest copies in memory: so long, so many bytes, or both, as 60s,1G")
	flags.StringSliceVar(&f.triggers, "trigger", nil,
		"where --ring can be told to write a file, beside SIGUSR1: unix:PATH, http://127.0.0.1:PORT")
	flags.BoolVar(&f.stats, "stats", false, "show counters every second also where stderr is no terminal")
	mandatory(cmd, "write")
	fixed(cmd, "encap", "udp", "vxlan")
	return cmd
}

// untilSignal returns a context that ends with SIGINT, SIGTERM or SIGHUP, but not with a SIGHUP that nohup ignores.
// SIGPIPE is ignored: a write to a closed pipe returns an error.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	signal.Ignore(syscall.SIGPIPE)
	end := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		end = append(end, syscall.SIGHUP)
	}
	return signal.NotifyContext(ctx, end...)
}

// inTime calls write, but waits at most a second: the message may not be read by anybody.
func inTime(write func()) {
	done := make(chan struct{})
	go func() {
		write()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// openAudience opens the socket of --serve; nil if it is empty.
func openAudience(place string) (*receive.Audience, error) {
	if place == "" {
		return nil, nil
	}
	path, ok := strings.CutPrefix(place, unixPrefix)
	if !ok || path == "" {
		return nil, fmt.Errorf("--serve: want %sPATH, not %q", unixPrefix, place)
	}
	a, err := receive.Listen(path)
	if err != nil {
		return nil, failure{fmt.Errorf("--serve: %w", err)}
	}
	return a, nil
}

// summarise prints what a reception has done.
func (f *receiveFlags) summarise(w io.Writer, counters receive.Counters, audience *receive.Audience) {
	text := counters.String()
	if audience != nil && audience.Missed() > 0 {
		text += fmt.Sprintf("; readers that were too slow have missed %d", audience.Missed())
	}
	fmt.Fprintln(w, text)
}

// config returns the configuration from the flags. Messages go to stderr.
func (f *receiveFlags) config(a *app, cmd *cobra.Command) (receive.Config, error) {
	c := receive.Config{
		Encap: wire.Encap(f.encap), Packets: f.packets, Duration: f.duration,
		Output: receive.Output{Path: f.file, RotateSize: int64(f.rotateSize), RotateInterval: f.rotateInterval,
			Files: f.files},
	}
	addr, err := netip.ParseAddr(f.listen)
	switch {
	case err != nil || !addr.Is6() || addr.Is4In6() || addr.Zone() != "":
		return c, fmt.Errorf("--listen: %q is not an IPv6 address", f.listen)
	case c.Encap != wire.EncapUDP && c.Encap != wire.EncapVXLAN:
		return c, fmt.Errorf("--encap: %q is neither udp nor vxlan", f.encap)
	case f.port == 0 && c.Encap != wire.EncapVXLAN:
		return c, errors.New("--udp-dst-port is required")
	case f.rotateInterval < 0 || f.duration < 0 || f.files < 0:
		return c, errors.New("--rotate-interval, --duration and --files must not be negative")
	case f.files > 0 && f.rotateSize == 0 && f.rotateInterval == 0 && !f.ring.isSet():
		return c, errors.New("--files needs --rotate-size, --rotate-interval or --ring")
	case f.file == "-" && (f.rotateSize > 0 || f.rotateInterval > 0 || f.ring.isSet()):
		return c, errors.New("a series of files cannot be written to stdout")
	case f.ring.isSet() && (f.rotateSize > 0 || f.rotateInterval > 0):
		return c, errors.New("--ring writes a file when it is told to: it does not go with --rotate-size and --rotate-interval")
	case len(f.triggers) > 0 && !f.ring.isSet():
		return c, errors.New("--trigger needs --ring")
	}
	c.Memory = receive.Memory(f.ring)
	if f.port == 0 {
		f.port = wire.VXLANPort
	}
	c.Listen = netip.AddrPortFrom(addr, f.port)
	if f.file == "-" {
		c.Output.Path, c.Output.File = "", os.Stdout
	}
	if cmd.Flags().Changed("buffer") {
		c.Buffer = int(f.buffer)
	}
	if c.From, err = parseSources(f.sources); err != nil {
		return c, err
	}
	if c.Privileges, err = privileges(f.user); err != nil {
		return c, err
	}
	given, err := parseNames(f.names)
	if err != nil {
		return c, err
	}
	known := newDirectory(a, given)
	c.Describe = known.describe
	c.Output.Comment = known.comment(c.Listen)
	showProgress(&c, cmd.ErrOrStderr(), f.stats)
	return c, nil
}

// parseSources parses addresses and networks.
func parseSources(texts []string) ([]netip.Prefix, error) {
	var sources []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if addr, notOne := netip.ParseAddr(text); notOne == nil {
			p, err = netip.PrefixFrom(addr.WithZone(""), addr.BitLen()), nil
		}
		if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() || strings.Contains(text, "%") {
			return nil, fmt.Errorf("--source: %q is neither an IPv6 address nor an IPv6 network", text)
		}
		sources = append(sources, p)
	}
	if len(sources) > receive.MaxFrom {
		return nil, fmt.Errorf("--source: at most %d can be told", receive.MaxFrom)
	}
	return sources, nil
}

// nobody is the user without any files.
const nobody = "nobody"

// privileges returns what the process gives up when it begins to receive. The name is that of --user, or empty.
func privileges(name string) (*receive.Privileges, error) {
	if name == "" {
		u, err := privilege.Lookup(nobody)
		if err != nil || !privilege.MayBecomeOthers() {
			return &receive.Privileges{}, nil // drop only the capabilities
		}
		return &receive.Privileges{User: &u}, nil
	}
	u, err := privilege.Lookup(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--user: %w", err)
	case !privilege.MayBecomeOthers():
		return nil, errors.New("--user: only root can become another user")
	}
	return &receive.Privileges{User: &u, Must: true}, nil
}

// showProgress lets the reception print that it has begun, and counters: on a terminal, or always.
func showProgress(c *receive.Config, stderr io.Writer, always bool) {
	c.Ready = func(r receive.Readiness) {
		text := fmt.Sprintf("receiving on %s, with a buffer of %d MiB", r.At, r.Buffer>>20)
		if r.User != nil {
			text += ", as user " + r.User.Name
		}
		inTime(func() { fmt.Fprintln(stderr, text) })
	}
	terminal := isTerminal(stderr)
	if !always && !terminal {
		return
	}
	end := "\n"
	if terminal {
		end = "\x1b[K\r"
	}
	lines := make(chan string, 1)
	go func() {
		for line := range lines {
			fmt.Fprint(stderr, line)
		}
	}()
	c.Progress = func(n receive.Counters) {
		select {
		case lines <- n.String() + end:
		default: // stderr is not read: skip the line
		}
	}
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// size is a number of bytes with an optional unit, for example 100M.
type size int64

func (s *size) String() string {
	const mib = 20
	if *s > 0 && *s%(1<<mib) == 0 {
		return strconv.FormatInt(int64(*s>>mib), 10) + "M"
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *size) Type() string { return "size" }

func (s *size) Set(text string) error {
	shift := map[string]uint{"k": 10, "m": 20, "g": 30, "t": 40}
	digits, by := text, uint(0)
	if n := len(text); n > 0 {
		if unit, ok := shift[strings.ToLower(text[n-1:])]; ok {
			digits, by = text[:n-1], unit
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>by {
		return errors.New("want a number of bytes, which may end in k, M, G or T")
	}
	*s = size(n << by)
	return nil
}
