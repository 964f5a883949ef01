// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dpservice/capture/filter"
	"dpservice/capture/receive"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/wire"
)

const (
	// extcapVF and extcapPF are the prefixes of the names of our interfaces in Wireshark.
	extcapVF = "dpservice-vf-"
	extcapPF = "dpservice-pf"
	// watchInterval is how often a live capture checks that its session is still active.
	watchInterval = time.Second
)

// extcapFlags are the flags that Wireshark sets: those of every extcap, and those of our form.
type extcapFlags struct {
	interfaces, dlts, form, capture     bool
	version, iface, fifo, captureFilter string
	guard                               string // set by dpctl itself: the capture that a guardian stops
	sink, encap, direction, filter      string
	udpSrcPort, udpDstPort              uint16
	packets                             uint64
	duration                            time.Duration
}

func (a *app) extcapCommand() *cobra.Command {
	var f extcapFlags
	cmd := &cobra.Command{
		Use:   "extcap",
		Short: "Show the daemon's interfaces in Wireshark, and capture there live",
		Long: `Be an extcap of Wireshark and tshark: make install-extcap puts it where they look for such programs, which then run it. The
daemon's interfaces are in their lists. A capture that is started there starts one in the NIC, with this machine as the
sink, and stops it when it is stopped, or when the program that shows it has ended.`,
		Example: `  dpctl extcap --extcap-interfaces
  tshark -i dpservice-vf-vm-1`,
		Args:               cobra.NoArgs,
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true}, // a later Wireshark may pass unknown flags
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !f.interfaces && !f.dlts && !f.form && !f.capture && f.captureFilter == "" && f.guard == "" {
				return errors.New("this is for Wireshark to run: see make install-extcap")
			}
			if err := a.extcap(cmd.Context(), &f, cmd.OutOrStdout()); err != nil {
				return failure{err}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.interfaces, "extcap-interfaces", false, "list the interfaces")
	flags.BoolVar(&f.dlts, "extcap-dlts", false, "list the link types of --extcap-interface")
	flags.BoolVar(&f.form, "extcap-config", false, "describe the form of --extcap-interface")
	flags.BoolVar(&f.capture, "capture", false, "capture on --extcap-interface")
	flags.StringVar(&f.version, "extcap-version", "", "the version of Wireshark")
	flags.StringVar(&f.iface, "extcap-interface", "", "the interface")
	flags.StringVar(&f.captureFilter, "extcap-capture-filter", "", "Wireshark's capture filter")
	flags.StringVar(&f.fifo, "fifo", "", "where the packets go")
	flags.StringVar(&f.sink, "sink-node-ip", "",
		"this machine's address in the underlay (default: the one that the node is reached from)")
	flags.Uint16Var(&f.udpSrcPort, "udp-src-port", extcapSrcPort, "UDP source port of the copies")
	flags.Uint16Var(&f.udpDstPort, "udp-dst-port", 0,
		fmt.Sprintf("UDP destination port of the copies (default the first free one from %d on)", extcapDstPort))
	flags.StringVar(&f.encap, "encap", "udp", `how copies are wrapped, "udp" or "vxlan"`)
	flags.StringVar(&f.direction, "direction", "rx", `of a VM, "rx" what it sends, "tx" what it receives, or "both"`)
	flags.StringVar(&f.filter, "filter", "",
		"what to capture, in the capture filter's language; default the capture filter")
	flags.Uint64Var(&f.packets, "packets", 0, "end after so many packets")
	flags.DurationVar(&f.duration, "duration", 0, "end after this time, for example 30s")
	flags.Lookup("extcap-version").NoOptDefVal = "unknown"
	flags.StringVar(&f.guard, "guard", "", "stop this capture when stdin ends")
	_ = flags.MarkHidden("guard") // the flag exists
	return cmd
}

const (
	extcapSrcPort = 3000
	// extcapDstPort is the first port that is tried, and extcapPorts is how many are tried. A firewall can allow this
	// range.
	extcapDstPort = 3010
	extcapPorts   = 64
)

func (a *app) extcap(ctx context.Context, f *extcapFlags, w io.Writer) error {
	switch {
	case f.interfaces:
		return a.extcapInterfaces(ctx, w)
	case f.dlts:
		_, err := fmt.Fprintln(w, "dlt {number=1}{name=EN10MB}{display=Ethernet}")
		return err
	case f.form:
		_, err := io.WriteString(w, extcapForm(f.iface))
		return err
	case f.capture:
		return a.extcapCapture(ctx, f)
	case f.guard != "":
		return a.guardCapture(f.guard, os.Stdin)
	}
	return checkFilter(f, w)
}

// checkFilter prints what is wrong with a capture filter on stdout, where Wireshark expects it. The limit of rules and
// the capabilities of the NIC are checked only when the capture starts.
func checkFilter(f *extcapFlags, w io.Writer) error {
	link := filter.Ethernet
	if target, err := extcapTarget(f.iface); err == nil && target.PF != nil {
		link = filter.IP
	}
	if _, err := filter.Compile(f.captureFilter, link, math.MaxInt); err != nil {
		_, err = fmt.Fprintln(w, err)
		return err
	}
	return nil
}

// extcapInterfaces lists what can be captured. Without a daemon it lists nothing and returns no error, since Wireshark
// calls it at every start.
func (a *app) extcapInterfaces(ctx context.Context, w io.Writer) error {
	fmt.Fprintln(w, "extcap {version=1.0}{display=dpservice: packets that the NIC forwards by itself}")
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	interfaces, err := client.Call(ctx, a.socket, api.MethodInterfaceList, api.None{})
	if err != nil {
		return nil
	}
	for _, i := range interfaces.Interfaces {
		fmt.Fprintf(w, "interface {value=%s%s}{display=dpservice: %s}\n", extcapVF, i.ID, i.ID)
	}
	ports, err := client.Call(ctx, a.socket, api.MethodPortList, api.None{})
	if err != nil {
		return nil
	}
	for _, p := range ports.Ports {
		if p.Role == "pf" {
			fmt.Fprintf(w, "interface {value=%s%d}{display=dpservice: IPinIP from the wire at PF%d}\n", extcapPF, p.Index,
				p.Index)
		}
	}
	return nil
}

// extcapForm returns the form that Wireshark shows before a capture. A PF has only one direction.
func extcapForm(iface string) string {
	if strings.HasPrefix(iface, extcapVF) {
		return extcapFields + extcapDirections
	}
	return extcapFields
}

const extcapDirections = `arg {number=7}{call=--direction}{display=Direction}{type=selector}{tooltip=Which of the VM's frames to copy}
value {arg=7}{value=rx}{display=what the VM sends}{default=true}
value {arg=7}{value=tx}{display=what the VM receives}{default=false}
value {arg=7}{value=both}{display=both}{default=false}
`

var extcapFields = fmt.Sprintf(`arg {number=0}{call=--sink-node-ip}{display=This machine's address}{type=string}{tooltip=The IPv6 address in the underlay at which this machine gets the copies. Empty: the one from which the node is reached}
arg {number=1}{call=--udp-dst-port}{display=UDP destination port}{type=unsigned}{range=0,65535}{default=0}{tooltip=Where copies arrive here; 0 is the first free port from %d to %d}
arg {number=2}{call=--udp-src-port}{display=UDP source port}{type=unsigned}{range=1,65535}{default=%d}{tooltip=A NIC may overwrite it}
arg {number=3}{call=--encap}{display=Encapsulation}{type=selector}{tooltip=What stands before a copied frame}
value {arg=3}{value=udp}{display=UDP}{default=true}
value {arg=3}{value=vxlan}{display=VXLAN}{default=false}
arg {number=4}{call=--filter}{display=Filter in the NIC}{type=string}{tooltip=What to copy, in the language of capture filters}
arg {number=5}{call=--packets}{display=Packets at most}{type=unsigned}{default=0}{tooltip=0 is no limit}{group=Limits}
arg {number=6}{call=--duration}{display=Time at most}{type=string}{tooltip=For example 30s; empty is no limit}{validation=^([0-9]+(ms|s|m|h))*$}{group=Limits}
`, extcapDstPort, extcapDstPort+extcapPorts-1, extcapSrcPort)

// extcapCapture captures until Wireshark stops it or exits, a limit is reached, or the session ends.
func (a *app) extcapCapture(ctx context.Context, f *extcapFlags) (err error) {
	target, err := extcapTarget(f.iface)
	if err != nil {
		return err
	}
	if f.fifo == "" {
		return errors.New("--capture needs --fifo")
	}
	if info, err := os.Stat(f.fifo); err != nil || info.Mode().IsRegular() {
		return fmt.Errorf("--fifo: there is no FIFO %s", f.fifo)
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	sink, err := a.extcapSink(ctx, f.sink)
	if err != nil {
		return err
	}
	conn, err := client.Dial(ctx, a.socket) // before privileges are dropped: later it might not be allowed
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &extcapSession{app: a, conn: conn, parent: os.Getppid(), params: extcapParams(f, target, sink)}
	ctx, s.end = context.WithCancelCause(ctx)
	defer s.end(nil)
	guarded, err := a.startGuardian(s.params.Name)
	if err != nil {
		return err
	}
	defer guarded.Close()
	known := newDirectory(a, nil)
	c := receive.Config{
		Listen:   netip.AddrPortFrom(sink, f.udpDstPort),
		Encap:    wire.Encap(f.encap),
		Output:   receive.Output{Path: f.fifo},
		Packets:  f.packets,
		Duration: f.duration,
		Describe: known.describe,
		// The process keeps its user, who may connect to the daemon.
		Privileges: &receive.Privileges{},
		Ready: func(r receive.Readiness) {
			s.params.UDPDstPort = r.At.Port()
			go s.run(ctx)
		},
	}
	if f.udpDstPort == 0 {
		c.Listen, c.Ports = netip.AddrPortFrom(sink, extcapDstPort), extcapPorts
	}
	_, err = receive.Run(ctx, c)
	if stopErr := s.stop(); err == nil {
		err = stopErr
	}
	var failed failure
	if cause := context.Cause(ctx); err == nil && errors.As(cause, &failed) {
		err = cause
	}
	return err
}

func extcapTarget(name string) (api.CaptureTarget, error) {
	if id, ok := strings.CutPrefix(name, extcapVF); ok && id != "" {
		return api.CaptureTarget{VF: id}, nil
	}
	if text, ok := strings.CutPrefix(name, extcapPF); ok {
		if number, err := strconv.Atoi(text); err == nil {
			return api.CaptureTarget{PF: &number}, nil
		}
	}
	return api.CaptureTarget{}, fmt.Errorf("there is no interface %q: --extcap-interfaces lists them", name)
}

// extcapSink returns the address that copies are sent to: the given address, or the local address from which this
// machine reaches the node.
func (a *app) extcapSink(ctx context.Context, given string) (netip.Addr, error) {
	if given != "" {
		return netip.ParseAddr(given)
	}
	_, info, err := a.captures(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	node, err := netip.ParseAddr(info.Underlay.IP)
	if err != nil {
		return netip.Addr{}, err
	}
	c, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(node,
		extcapDstPort))) // this sends no packet
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the node %s is not reached from here, say this machine's address in the underlay: %w", node, err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr(), nil
}

func extcapParams(f *extcapFlags, target api.CaptureTarget, sink netip.Addr) api.CaptureStartParams {
	filter := f.filter
	if filter == "" {
		filter = f.captureFilter
	}
	return api.CaptureStartParams{
		Name: fmt.Sprintf("extcap-%d", os.Getpid()), SinkNodeIP: sink.String(), Encap: f.encap, Direction: f.direction,
		Filter:     filter,
		UDPSrcPort: f.udpSrcPort, UDPDstPort: f.udpDstPort, Interfaces: []api.CaptureTarget{target},
	}
}

// extcapSession is the capture session of the daemon that belongs to a live capture.
type extcapSession struct {
	app     *app
	conn    *client.Client
	params  api.CaptureStartParams
	end     context.CancelCauseFunc // ends the reception
	mu      sync.Mutex
	parent  int // process ID of Wireshark
	started bool
	over    bool // the session must not be started any more
}

// run starts the session and watches it. It ends the reception if the session is gone.
func (s *extcapSession) run(ctx context.Context) {
	if err := s.start(); err != nil {
		s.end(err)
		return
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if os.Getppid() != s.parent { // Wireshark was killed; its child may still read the FIFO
			s.end(errSessionEnded)
			return
		}
		if err := s.check(ctx); err != nil {
			s.end(err)
			return
		}
	}
}

func (s *extcapSession) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	// The end of the reception does not cancel the call: stop must know whether the session has started.
	ctx, cancel := context.WithTimeout(context.Background(), s.app.timeout)
	defer cancel()
	if err := s.conn.Call(ctx, api.MethodCaptureStart, s.params, nil); err != nil {
		return failure{explain(err)}
	}
	s.started = true
	return nil
}

// check returns an error, which ends the reception, if the session is not active any more.
func (s *extcapSession) check(ctx context.Context) error {
	var status api.CaptureStatusResult
	if err := s.conn.Call(ctx, api.MethodCaptureStatus, nil, &status); err != nil {
		return failure{fmt.Errorf("the capture is lost: %w", err)}
	}
	for _, c := range status.Sessions {
		if c.Name == s.params.Name && c.State == "active" {
			return nil
		}
	}
	return errSessionEnded
}

var errSessionEnded = errors.New("the session has ended")

// stop stops the session if it was started and still exists.
func (s *extcapSession) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if !s.started {
		return nil
	}
	return s.app.stopIfExists(s.conn, s.params.Name)
}

// stopIfExists stops a capture. It is no error if the capture has already been stopped.
func (a *app) stopIfExists(c *client.Client, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
	defer cancel()
	err := c.Call(ctx, api.MethodCaptureStop, api.CaptureStopParams{Name: name}, &api.CaptureStopResult{})
	var refused *client.Error
	if errors.As(err, &refused) && (refused.Code == api.CodeNotActive || refused.Code == api.CodeNotFound) {
		return nil
	}
	return err
}

// startGuardian starts a process that stops the capture when this process exits for any reason. The exit closes the
// returned pipe, which the guardian reads.
func (a *app) startGuardian(name string) (io.Closer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	guardian := exec.Command(self, "--socket", a.socket, "extcap", "--guard", name)
	guardian.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a signal to our process group does not reach it
	pipe, err := guardian.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := guardian.Start(); err != nil {
		return nil, fmt.Errorf("starting the guardian of the capture: %w", err)
	}
	return pipe, nil
}

// guardCapture waits until the capturing process has exited, then stops its capture.
func (a *app) guardCapture(name string, end io.Reader) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if _, err := io.Copy(io.Discard, end); err != nil {
		return err
	}
	c, err := client.Dial(context.Background(), a.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	return a.stopIfExists(c, name)
}
