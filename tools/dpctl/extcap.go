// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
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
)

// extcapFlags are the flags that Wireshark sets: those of every extcap, and those of our form.
type extcapFlags struct {
	interfaces, dlts, form, capture     bool
	version, iface, fifo, captureFilter string
	sink, encap, direction, filter      string
	drops                               bool
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
			if !f.interfaces && !f.dlts && !f.form && !f.capture && f.captureFilter == "" {
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
	flags.Uint16Var(&f.udpSrcPort, "udp-src-port", wire.DefaultCopySrcPort, "UDP source port of the copies")
	flags.Uint16Var(&f.udpDstPort, "udp-dst-port", 0,
		fmt.Sprintf("UDP destination port of the copies (default the first free one from %d on)", liveDstPort))
	flags.StringVar(&f.encap, "encap", "udp", `how copies are wrapped, "udp" or "vxlan"`)
	flags.BoolVar(&f.drops, "drops", false, "capture also what the software drops, with the reason")
	flags.StringVar(&f.direction, "direction", "rx", `of a VM, "rx" what it sends, "tx" what it receives, or "both"`)
	flags.StringVar(&f.filter, "filter", "",
		"what to capture, in the capture filter's language; default the capture filter")
	flags.Uint64Var(&f.packets, "packets", 0, "end after so many packets")
	flags.DurationVar(&f.duration, "duration", 0, "end after this time, for example 30s")
	flags.Lookup("extcap-version").NoOptDefVal = "unknown"
	return cmd
}

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
arg {number=8}{call=--drops}{display=Also what is dropped}{type=boolflag}{default=false}{tooltip=Copy also what the software drops, with the reason in the interface's name}
`, liveDstPort, liveDstPort+livePorts-1, wire.DefaultCopySrcPort)

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
	s, err := a.newHeldSession(ctx, f.sink, extcapParams(f, target))
	if err != nil {
		return err
	}
	defer s.conn.Close()
	wireshark := os.Getppid()
	s.look = func(api.CaptureSession) error {
		if os.Getppid() != wireshark { // it was killed; its child may still read the FIFO
			return errSessionEnded
		}
		return nil
	}
	ctx, s.end = context.WithCancelCause(ctx)
	defer s.end(nil)
	c := receive.Config{
		Encap:    wire.Encap(f.encap),
		Output:   receive.Output{Path: f.fifo},
		Packets:  f.packets,
		Duration: f.duration,
		Describe: s.describe,
		// The process keeps its user, who may connect to the daemon.
		Privileges: &receive.Privileges{},
		Ready: func(r receive.Readiness) {
			s.params.UDPDstPort = r.At.Port()
			go s.run(ctx, nil)
		},
	}
	s.listen(&c, f.udpDstPort)
	_, err = receive.Run(ctx, c)
	return s.finish(ctx, err)
}

func extcapTarget(name string) (api.CaptureSelector, error) {
	if id, ok := strings.CutPrefix(name, extcapVF); ok && id != "" {
		return api.CaptureSelector{VF: id}, nil
	}
	if text, ok := strings.CutPrefix(name, extcapPF); ok {
		if number, err := strconv.Atoi(text); err == nil {
			return api.CaptureSelector{PF: &number}, nil
		}
	}
	return api.CaptureSelector{}, fmt.Errorf("there is no interface %q: --extcap-interfaces lists them", name)
}

func extcapParams(f *extcapFlags, target api.CaptureSelector) api.CaptureStartParams {
	filter := f.filter
	if filter == "" {
		filter = f.captureFilter
	}
	return api.CaptureStartParams{
		Name: fmt.Sprintf("extcap-%d", os.Getpid()), Encap: f.encap, Direction: f.direction, Drops: f.drops, Filter: filter,
		UDPSrcPort: f.udpSrcPort, UDPDstPort: f.udpDstPort, Interfaces: []api.CaptureSelector{target},
	}
}
