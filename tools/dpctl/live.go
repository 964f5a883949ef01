// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"dpservice/capture/receive"
	"dpservice/rpc/api"
)

// liveFlags are the flags of dpctl capture live.
type liveFlags struct {
	of              selection
	direction, sink string
	drops           bool
	port            uint16
	file, show      string
	count           uint64
	duration        time.Duration
}

func (a *app) captureLive() *cobra.Command {
	var f liveFlags
	cmd := &cobra.Command{
		Use:   "live [INTERFACE[,INTERFACE...]] [FILTER...]",
		Short: "Show packets as they pass, as tcpdump does",
		Long: `Start a capture with this machine as the sink, show its packets as they come, and end it with this command, however that
ends. Each line begins with the interface and the direction: rx is what the guest sends, and what arrives at a physical port
(pf0); tx is what the guest receives. With --drops there is also what the software drops of both, with
the reason.

Interfaces are named first, or selected by --vni, --all, --vf and --pf. The rest is a filter in tcpdump's language, which the NIC
applies. tcpdump decodes the packets, or tshark where there is no tcpdump; where neither is installed, a line tells the
essence.

It runs on the hypervisor, or on any machine that the underlay reaches, with the daemon's socket forwarded:

    ssh -fN -L /tmp/hv1.sock:/run/dpservice/dpservice.sock root@hv1
    dpctl --socket=/tmp/hv1.sock capture live vm-1`,
		Example: `  dpctl capture live vm-1
  dpctl capture live vm-1,vm-2 tcp port 443 and not host 10.0.0.9
  dpctl capture live --vni=100 --count=20 icmp
  dpctl capture live --all --duration=10s -w all.pcapng
  dpctl capture live --all --drops --direction=none
  dpctl capture live pf0 -w - | wireshark -k -i -`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: first(a.interfaceIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.of.isEmpty() {
				if len(args) == 0 {
					return errors.New("name an interface, or select some by --vni or --all: dpctl interface list shows them")
				}
				f.of.add(args[0])
				args = args[1:]
			}
			if !slices.Contains(decoders, f.show) {
				return fmt.Errorf("--show: want %s", strings.Join(decoders, ", "))
			}
			return a.live(cmd, &f, strings.Join(args, " "))
		},
	}
	f.of.flags(a, cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.direction, "direction", "both",
		`of the guests' packets: "rx" what they send, "tx" what they receive, "both", or "none" with --drops`)
	flags.BoolVar(&f.drops, "drops", false, "show also what the software drops, with the reason")
	flags.StringVarP(&f.file, "write", "w", "", "write the packets to a pcapng file instead, - for stdout")
	flags.StringVar(&f.show, "show", decoders[0], "what decodes the packets: "+strings.Join(decoders, ", "))
	flags.Uint64Var(&f.count, "count", 0, "end after so many packets")
	flags.DurationVar(&f.duration, "duration", 0, "end after this time, for example 30s")
	flags.StringVar(&f.sink, "sink-node-ip", "",
		"this machine's address in the underlay (default: the one from which it reaches the node)")
	flags.Uint16Var(&f.port, "udp-dst-port", 0,
		fmt.Sprintf("UDP port for the copies here (default the first free one from %d to %d)", liveDstPort,
			liveDstPort+livePorts-1))
	fixed(cmd, "direction", directions...)
	fixed(cmd, "show", decoders...)
	return cmd
}

// live captures until it is interrupted, a limit is reached, nobody reads what it shows, or the session ends.
func (a *app) live(cmd *cobra.Command, f *liveFlags, filter string) error {
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	s, err := a.newHeldSession(ctx, f.sink, api.CaptureStartParams{
		Name: fmt.Sprintf("live-%d", os.Getpid()), Direction: f.direction, Drops: f.drops, Filter: filter,
		Interfaces: f.of.selectors(),
	})
	if err != nil {
		return failure{err}
	}
	defer s.conn.Close()
	ctx, s.end = context.WithCancelCause(ctx)
	defer s.end(nil)
	arrivals := arrivals{stderr: cmd.ErrOrStderr()}
	s.look = arrivals.look
	c := receive.Config{
		From:    []netip.Prefix{netip.PrefixFrom(s.node, s.node.BitLen())},
		Packets: f.count, Duration: f.duration, Describe: s.describe,
	}
	s.listen(&c, f.port)
	if c.Privileges, err = privileges(""); err != nil {
		return failure{err}
	}
	var v *viewer
	switch f.file {
	case "":
		if v, err = newViewer(f.show, cmd.OutOrStdout(), s.pointOf, s.end); err != nil {
			return failure{err}
		}
		c.Output.File = v.in
	case "-":
		c.Output.File = os.Stdout
	default:
		c.Output.Path = f.file
	}
	if v == nil {
		showProgress(&c, cmd.ErrOrStderr(), false)
	}
	arrivals.count(&c)
	c.Ready = func(r receive.Readiness) {
		s.params.UDPDstPort = r.At.Port()
		if v != nil {
			v.start()
		}
		go s.run(ctx, func(session api.CaptureSession) { inTime(func() { announce(cmd.ErrOrStderr(), session) }) })
	}
	counters, err := receive.Run(ctx, c)
	err = s.finish(ctx, err)
	if v != nil {
		if closeErr := v.close(); err == nil {
			err = closeErr
		}
	}
	if err != nil {
		return failure{err}
	}
	inTime(func() { fmt.Fprintln(cmd.ErrOrStderr(), counters) })
	return nil
}

// arrivals finds out that copies which the node has sent do not arrive here.
type arrivals struct {
	stderr   io.Writer
	received atomic.Uint64
	missing  int // looks in a row at a session that has sent what did not arrive
}

// count has a reception count what arrives.
func (a *arrivals) count(c *receive.Config) {
	progress := c.Progress
	c.Progress = func(n receive.Counters) {
		a.received.Store(n.Packets)
		if progress != nil {
			progress(n)
		}
	}
}

// patience is how many looks copies may take to arrive.
const patience = 3

// look says so once if the node has sent copies and none has arrived.
func (a *arrivals) look(s api.CaptureSession) error {
	if s.Packets == 0 || a.received.Load() > 0 {
		a.missing = 0
		return nil
	}
	if a.missing++; a.missing == patience {
		inTime(func() {
			fmt.Fprintf(a.stderr, "dpctl: the node has sent %d copies to %s, UDP port %d, and none has arrived here: look for a "+
				"firewall, for the underlay's route to this machine, and for its MTU\n", s.Packets, s.SinkNodeIP, s.UDPDstPort)
		})
	}
	return nil
}

// pointOf returns what people call an interface of the file: the guest's interface and the direction, or why its
// packets were dropped.
func (s *heldSession) pointOf(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.session.Interfaces {
		if pointName(i) == name {
			return pointText(i)
		}
		target := targetName(i.CaptureTarget)
		if reason, is := strings.CutPrefix(name, target+receive.DropInfix); is && i.Direction == "drops" {
			return target + " drop " + reason
		}
	}
	return name
}

func pointText(i api.CaptureInterface) string { return targetName(i.CaptureTarget) + " " + i.Direction }

// announce tells what is captured, and what is to be known of it.
func announce(w io.Writer, s api.CaptureSession) {
	points := each(s.Interfaces, pointText)
	fmt.Fprintf(w, "capturing %s; Ctrl-C ends it\n", strings.Join(points, ", "))
	for _, warning := range s.Warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
}
