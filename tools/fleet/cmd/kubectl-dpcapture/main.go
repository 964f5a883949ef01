// SPDX-License-Identifier: Apache-2.0

// Command kubectl-dpcapture is the plug-in kubectl dpcapture: it captures a tenant's packets on all hypervisors of a
// cluster, and merges them into one file.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dpservice/tools/fleet/api/v1alpha1"
	"dpservice/tools/fleet/internal/command"
)

// app has what the commands have in common.
type app struct {
	kubeconfig, context, namespace string
	client                         client.Client
}

func main() {
	os.Exit(command.Run(newCommand()))
}

func newCommand() *cobra.Command {
	var a app
	cmd := &cobra.Command{
		Use:         "kubectl-dpcapture",
		Short:       "Capture packets on all hypervisors of a cluster",
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl dpcapture"},
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.kubeconfig, "kubeconfig", "", "file that says how to reach the cluster")
	flags.StringVar(&a.context, "context", "", "context of that file")
	flags.StringVarP(&a.namespace, "namespace", "n", "dpservice", "namespace of the collectors")
	cmd.AddCommand(a.start(), a.status(), a.stop(), a.fetch())
	return cmd
}

// connect makes the client. Nothing is sent yet.
func (a *app) connect() error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: a.context}).ClientConfig()
	if err != nil {
		return err
	}
	a.client, err = client.New(config, client.Options{Scheme: command.Scheme()})
	return err
}

func (a *app) get(ctx context.Context, name string) (*v1alpha1.PacketCapture, error) {
	var c v1alpha1.PacketCapture
	err := a.client.Get(ctx, client.ObjectKey{Name: name}, &c)
	return &c, err
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:     "status [NAME]",
		Short:   "Show captures, or one with its nodes",
		Example: "  kubectl dpcapture status\n  kubectl dpcapture status tenant-a",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.connect(); err != nil {
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			var err error
			if len(args) == 0 {
				err = a.showAll(cmd.Context(), t)
			} else {
				err = a.showOne(cmd.Context(), t, args[0])
			}
			if err != nil {
				return err
			}
			return t.Flush()
		},
	}
}

func (a *app) showAll(ctx context.Context, t *tabwriter.Writer) error {
	var list v1alpha1.PacketCaptureList
	if err := a.client.List(ctx, &list); err != nil {
		return err
	}
	fmt.Fprintln(t, "NAME\tSTATE\tNODES\tACTIVE\tFAILED\tPACKETS\tBYTES")
	for _, c := range list.Items {
		s := c.Status
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", c.Name, s.State, s.Nodes.Total, s.Nodes.Active, s.Nodes.Failed, s.Packets,
			s.Bytes)
	}
	return nil
}

func (a *app) showOne(ctx context.Context, t *tabwriter.Writer, name string) error {
	c, err := a.get(ctx, name)
	if err != nil {
		return err
	}
	var list v1alpha1.PacketCaptureNodeList
	if err := a.client.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelCapture: name}); err != nil {
		return err
	}
	fmt.Fprintln(t, "NODE\tSTATE\tREASON\tINTERFACES\tPACKETS\tBYTES\tSINK\tCLOCK\tMESSAGE")
	for _, n := range list.Items {
		if n.CaptureUID != string(c.UID) {
			continue
		}
		s := n.Status
		message := strings.Join(append([]string{s.Error}, s.Warnings...), "; ")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", n.NodeName, s.State, s.Reason, interfaces(s.Interfaces), s.Packets,
			s.Bytes, s.Sink, clockText(s.Clock), strings.TrimPrefix(message, "; "))
	}
	return nil
}

func interfaces(all []v1alpha1.NodeInterface) string {
	names := make([]string, len(all))
	for i, of := range all {
		names[i] = of.Name + " " + of.Direction
	}
	return strings.Join(names, ",")
}

// clockText says how right a clock is at least.
func clockText(c *v1alpha1.Clock) string {
	if c == nil || !c.Synchronized {
		return "not synchronized"
	}
	return fmt.Sprintf("±%s", time.Duration(c.MaxErrorMicroseconds)*time.Microsecond)
}

func (a *app) stop() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "stop NAME",
		Short: "End a capture on all nodes",
		Long: `End a capture on all nodes. It stays, with what it has counted, and its files can be fetched, until it is removed by --delete
or kubectl delete packetcapture.`,
		Example: "  kubectl dpcapture stop tenant-a\n  kubectl dpcapture stop tenant-a --delete",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.connect(); err != nil {
				return err
			}
			c, err := a.get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if remove {
				return a.client.Delete(cmd.Context(), c)
			}
			return a.end(cmd.Context(), c)
		},
	}
	cmd.Flags().BoolVar(&remove, "delete", false, "delete it, too")
	return cmd
}
