// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dpservice/capture/pcapng"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
)

func (a *app) traceCommand() *cobra.Command {
	var p api.TraceStartParams
	var file string
	cmd := &cobra.Command{
		Use:   "trace --interface=INTERFACE",
		Short: "Follow packets through the packet graph",
		Long: `Follow packets through the packet graph: what the guest of an interface sends, and what comes for it from the wire. Of each
packet it shows the time, what it is, what became of it and why, and every node that it visited, with the cycles that the node
took for each packet of the burst.

What the NIC forwards by itself is not seen: dpctl capture live shows that. What another guest of this node sends to this one
is traced at that one. A filter is in tcpdump's language; what comes from the wire it looks at without the tunnel.

There is one trace at a time, of at most 1000 packets a second; it ends with this command, however that ends. Meanwhile the
workers need more cycles for each packet. -o json writes an object for each packet.`,
		Example: `  dpctl trace --interface=vm-1 --count=20
  dpctl trace --interface=vm-1 --filter='host 10.0.0.9'
  dpctl trace --interface=vm-1 --drops
  dpctl trace --interface=vm-1 -w trace.pcapng`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := a.newTraceOutput(cmd.OutOrStdout(), p.Interface, file)
			if err != nil {
				return err
			}
			p.Client = thisProcess()
			err = a.trace(cmd, p, out)
			if closeErr := out.close(); err == nil {
				err = closeErr
			}
			if err != nil {
				return failure{err}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.Interface, "interface", "", "the interface, by its id")
	flags.StringVar(&p.Filter, "filter", "", "only packets that match this filter, in tcpdump's language")
	flags.BoolVar(&p.Drops, "drops", false, "only packets that are dropped, or answered with an ICMP error")
	flags.Uint64Var(&p.Count, "count", 0, "end after so many packets")
	flags.StringVarP(&file, "write", "w", "", "write the packets to a pcapng file instead, - for stdout, with the rest as their comments")
	mandatory(cmd, "interface")
	complete(cmd, "interface", a.interfaceIDs)
	return cmd
}

// thisProcess says who traces, for others that want to.
func thisProcess() string {
	name := fmt.Sprintf("dpctl (process %d)", os.Getpid())
	if u, err := user.Current(); err == nil {
		name += " of " + u.Username
	}
	return name
}

// trace shows packets until it is interrupted or has shown enough.
func (a *app) trace(cmd *cobra.Command, p api.TraceStartParams, out traceOutput) error {
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	conn, err := client.Dial(ctx, a.socket)
	if err != nil {
		return err
	}
	defer conn.Close() // it ends the trace
	var started api.TraceStartResult
	if err := a.within(ctx, conn, api.MethodTraceStart, p, &started); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "tracing %s; Ctrl-C ends it\n", p.Interface)
	for _, w := range started.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
	}
	missed := uint64(0)
	for {
		var r api.TraceReadResult
		err := a.within(ctx, conn, api.MethodTraceRead, nil, &r)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, packet := range r.Packets {
			if err := out.packet(packet); err != nil {
				return err
			}
		}
		if err := out.flush(); err != nil {
			return err
		}
		if r.Missed > missed {
			missed = r.Missed
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d packets were too many to be traced: use a narrower --filter\n", missed)
		}
		if r.Ended {
			return nil
		}
	}
}

// within calls a method that must answer in time, besides the second that trace.read may wait for packets.
func (a *app) within(ctx context.Context, conn *client.Client, m api.AnyMethod, params, result any) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout+time.Second)
	defer cancel()
	return explain(m, conn.Call(ctx, m, params, result))
}

// traceOutput is where traced packets are shown.
type traceOutput struct {
	packet func(api.TracedPacket) error
	flush  func() error // after each batch
	close  func() error
}

func (a *app) newTraceOutput(stdout io.Writer, iface, file string) (traceOutput, error) {
	nothing := func() error { return nil }
	switch {
	case file == "-":
		return newTraceFile(stdout, iface, nothing), nil
	case file != "":
		f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // tenants' packets
		if err != nil {
			return traceOutput{}, failure{err}
		}
		return newTraceFile(f, iface, f.Close), nil
	case a.output == "json":
		w := bufio.NewWriter(stdout)
		return traceOutput{
			packet: func(p api.TracedPacket) error { return json.NewEncoder(w).Encode(p) },
			flush:  w.Flush, close: w.Flush,
		}, nil
	case a.output == "table":
		w := bufio.NewWriter(stdout)
		return traceOutput{
			packet: func(p api.TracedPacket) error {
				_, err := fmt.Fprintf(w, "%s %s %s\n  %s\n", p.Time.Local().Format("15:04:05.000000"), p.Origin,
					essence(p.Frame, p.Length), strings.ReplaceAll(traceText(p), "\n", "\n  "))
				return err
			},
			flush: w.Flush, close: w.Flush,
		}, nil
	}
	return traceOutput{}, errors.New("dpctl trace shows text, or -o json")
}

// newTraceFile writes a pcapng file, whose packets have what is known of them as comments.
func newTraceFile(w io.Writer, iface string, closeFile func() error) traceOutput {
	file := pcapng.NewWriter(w, pcapng.Section{Application: "dpctl trace"})
	numbers := map[string]int{} // by port
	return traceOutput{
		packet: func(p api.TracedPacket) error {
			number, ok := numbers[p.Port]
			if !ok {
				number = file.AddInterface(pcapng.Interface{Name: p.Port, Description: "trace of " + iface})
				numbers[p.Port] = number
			}
			return file.CommentedPacket(number, p.Time.UnixNano(), p.Frame, p.Length, traceText(p))
		},
		flush: file.Flush,
		close: func() error { return errors.Join(file.Flush(), closeFile()) },
	}
}

// traceText is what became of a packet: the verdict in a line, and the nodes in another.
func traceText(p api.TracedPacket) string {
	nodes := each(p.Nodes, func(n api.TraceNode) string {
		return fmt.Sprintf("%s %d", n.Name, n.Cycles/uint32(max(n.Burst, 1)))
	})
	cycles := uint32(0)
	if n := len(p.Nodes); n > 0 {
		cycles = p.Nodes[n-1].Begin + p.Nodes[n-1].Cycles
	}
	return fmt.Sprintf("%s\n%s (%d cycles since it was received)", p.Verdict, strings.Join(nodes, " > "), cycles)
}
