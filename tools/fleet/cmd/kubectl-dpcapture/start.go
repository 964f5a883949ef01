// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dpservice/capture/filter"
	"dpservice/capture/spec"
	"dpservice/tools/fleet/api/v1alpha1"
)

// pollInterval is how often the command looks at a capture that it waits for: one object each time.
const pollInterval = time.Second

// startFlags are the flags of start.
type startFlags struct {
	vni                                   int32
	interfaces, nodes                     []string
	labels                                map[string]string
	all, pf0, drops                       bool
	direction, filter, encap              string
	packets, bytes, rate                  int64
	duration                              time.Duration
	sink, collector, output, from, tenant string
}

func (a *app) start() *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use:   "start [NAME]",
		Short: "Capture packets on all nodes that have something to capture",
		Long: `Create a PacketCapture. With -o, wait until it has ended, by --duration or Ctrl-C, and fetch its packets,
merged by time, into that folder. A capture whose command was killed goes on until its --duration is over, or until
kubectl dpcapture stop.`,
		Example: `  kubectl dpcapture start tenant-a --vni=100 --filter='tcp port 443' --duration=1m \
      -o out/ --from=https://s3.example/captures
  kubectl dpcapture start --interface=vm-1,vm-2 --direction=both
  kubectl dpcapture start lost --vni=100 --drops --direction=none
  kubectl dpcapture start edge --pf0 --node-label=rack=r1 --sink='[fc00:2::9]:3010' --duration=10s`,
		Args: cobra.MaximumNArgs(1),
		PreRunE: func(*cobra.Command, []string) error {
			if f.output != "" && f.from == "" {
				return errors.New("-o: say by --from where the collectors put the files")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "capture-" + time.Now().UTC().Format("20060102-150405")
			if len(args) > 0 {
				name = args[0]
			}
			return a.run(cmd, name, &f)
		},
	}
	flags := cmd.Flags()
	flags.Int32Var(&f.vni, "vni", 0, "capture the interfaces of this virtual network")
	flags.StringSliceVar(&f.interfaces, "interface", nil, "capture these interfaces, by their ids")
	flags.BoolVar(&f.all, "all", false, "capture all interfaces")
	flags.BoolVar(&f.pf0, "pf0", false, "capture what arrives from the wire at the first physical port")
	flags.StringSliceVar(&f.nodes, "node", nil, "on these nodes only")
	flags.StringToStringVar(&f.labels, "node-label", nil, "on nodes with these labels only")
	flags.StringVar(&f.direction, "direction", "rx",
		`of the guests' packets: "rx" what they send, "tx" what they receive, "both", or "none" with --drops`)
	flags.BoolVar(&f.drops, "drops", false, "capture also what the software drops, with the reason")
	flags.StringVar(&f.filter, "filter", "", "capture only these packets, in tcpdump's language")
	flags.DurationVar(&f.duration, "duration", 0, "end after this time, at once on all nodes")
	flags.Int64Var(&f.packets, "packets", 0, "end on a node after so many packets")
	flags.Int64Var(&f.bytes, "bytes", 0, "end on a node after so many bytes")
	flags.Int64Var(&f.rate, "packets-per-second", 0, "end on a node at a higher rate")
	flags.StringVar(&f.encap, "encap", "udp", "encapsulation of the copies: udp or vxlan")
	flags.StringVar(&f.sink, "sink", "", "send the copies to this address and port, such as [fc00:2::9]:3010")
	flags.StringVar(&f.collector, "collector", "default", "or to this pool of collectors")
	flags.StringVar(&f.tenant, "tenant", "", "name of the tenant, for the files")
	flags.StringVarP(&f.output, "output", "o", "", "wait, and fetch the packets into this folder")
	flags.StringVar(&f.from, "from", "", "where the collectors put the files, as fetch has it")
	return cmd
}

func (f *startFlags) spec() (s v1alpha1.PacketCaptureSpec, err error) {
	s = v1alpha1.PacketCaptureSpec{
		Targets:   v1alpha1.Targets{Interfaces: f.interfaces, All: f.all, PF0: f.pf0},
		Direction: f.direction, Drops: f.drops, Filter: f.filter, Encap: f.encap, Sink: v1alpha1.Sink{Collector: f.collector},
	}
	if f.vni != 0 {
		s.Targets.VNI = &f.vni
	}
	if len(f.nodes)+len(f.labels) > 0 {
		s.Nodes = &v1alpha1.NodeSelection{Names: f.nodes, MatchLabels: f.labels}
	}
	if f.duration != 0 {
		s.Duration = &metav1.Duration{Duration: f.duration}
	}
	if l := (v1alpha1.Limits{Packets: f.packets, Bytes: f.bytes, PacketsPerSecond: f.rate}); l != (v1alpha1.Limits{}) {
		s.Limits = &l
	}
	if f.sink != "" {
		at, err := netip.ParseAddrPort(f.sink)
		if err != nil {
			return s, fmt.Errorf("--sink: want an address and a port, such as [fc00:2::9]:3010: %w", err)
		}
		s.Sink = v1alpha1.Sink{Address: at.Addr().String(), Port: int32(at.Port())}
	}
	link := filter.Ethernet
	if f.pf0 && f.vni == 0 && !f.all && len(f.interfaces) == 0 {
		link = filter.IP
	}
	_, err = filter.Compile(f.filter, link, spec.MaxRules)
	return s, err
}

func (a *app) run(cmd *cobra.Command, name string, f *startFlags) error {
	s, err := f.spec()
	if err != nil {
		return err
	}
	if err := a.connect(); err != nil {
		return err
	}
	c := &v1alpha1.PacketCapture{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: s}
	if f.tenant != "" {
		c.Labels = map[string]string{v1alpha1.LabelTenant: f.tenant}
	}
	ctx := cmd.Context()
	if err := a.client.Create(ctx, c); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "packetcapture %s started\n", name)
	if f.output == "" {
		return nil
	}
	if err := a.await(ctx, cmd.ErrOrStderr(), name); err != nil {
		return err
	}
	return a.fetchTo(context.WithoutCancel(ctx), cmd, name, f.from, f.output)
}

// await waits until a capture has ended, and shows how it fares. When ctx ends it ends the capture.
func (a *app) await(ctx context.Context, w io.Writer, name string) error {
	always := context.WithoutCancel(ctx)
	told := ""
	for interrupted := ctx.Done(); ; {
		c, err := a.get(always, name)
		if err != nil {
			return err
		}
		n := c.Status.Nodes
		line := fmt.Sprintf("%s: active on %d of %d nodes, %d failed, %d packets",
			cmp.Or(c.Status.State, v1alpha1.Pending), n.Active, n.Total, n.Failed, c.Status.Packets)
		if line != told {
			fmt.Fprintln(w, line)
			for _, p := range c.Status.Problems {
				fmt.Fprintf(w, "  %s: %s\n", p.Node, p.Error)
			}
			told = line
		}
		if c.Status.ObservedGeneration == c.Generation {
			switch c.Status.State {
			case v1alpha1.Ended:
				return nil
			case v1alpha1.Failed:
				return fmt.Errorf("the capture has failed; kubectl dpcapture status %s shows why", name)
			}
		}
		select {
		case <-interrupted:
			interrupted = nil // it ends soon
			fmt.Fprintln(w, "ending the capture; Ctrl-C again leaves it at that, and fetches nothing")
			if err := a.end(always, c); err != nil {
				return err
			}
		case <-time.After(pollInterval):
		}
	}
}

// end ends a capture now.
func (a *app) end(ctx context.Context, c *v1alpha1.PacketCapture) error {
	old := c.DeepCopy()
	now := metav1.Now().Rfc3339Copy()
	c.Spec.EndTime, c.Spec.Duration = &now, nil
	if start, _ := c.Window(); !start.Before(now.Time) { // it has not begun yet, or has just begun
		c.Spec.StartTime = nil
	}
	return a.client.Patch(ctx, c, client.MergeFrom(old))
}
