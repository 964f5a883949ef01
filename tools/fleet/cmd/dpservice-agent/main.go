// SPDX-License-Identifier: Apache-2.0

// Command dpservice-agent does a node's part of PacketCaptures, beside the node's dpservice.
package main

import (
	"errors"
	"log/slog"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"dpservice/rpc/api"
	"dpservice/tools/fleet/agent"
	"dpservice/tools/fleet/api/v1alpha1"
	"dpservice/tools/fleet/internal/command"
)

// flags are those of the command.
type flags struct {
	node, socket, namespace, metrics string
	labels                           bool
}

func main() {
	var f flags
	cmd := &cobra.Command{
		Use:   "dpservice-agent",
		Short: "Do this node's part of PacketCaptures",
		Long: `Have this node's dpservice capture what PacketCaptures say, and report. Captures that people have started by
hand are not touched. When it ends, captures go on; it knows them again when it is back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.node, "node", os.Getenv("NODE_NAME"), "name of this node (default $NODE_NAME)")
	flags.StringVar(&f.socket, "socket", api.DefaultSocket, "socket of this node's dpservice")
	flags.StringVar(&f.namespace, "namespace", "dpservice", "namespace of the collectors")
	flags.BoolVar(&f.labels, "node-labels", true, "read this node's labels, by which captures can select it")
	flags.StringVar(&f.metrics, "metrics", "0", "address at which metrics are shown; 0 shows none")
	os.Exit(command.Run(cmd))
}

func run(cmd *cobra.Command, f flags) error {
	if f.node == "" {
		return errors.New("--node: want the name of this node")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	options := command.ManagerOptions()
	options.Metrics = metricsserver.Options{BindAddress: f.metrics}
	options.Client = agent.ClientOptions()
	options.Cache.ByObject = map[client.Object]cache.ByObject{
		&v1alpha1.PacketCollector{}: {Namespaces: map[string]cache.Config{f.namespace: {}}},
	}
	if f.labels {
		options.Cache.ByObject[&corev1.Node{}] = cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", f.node)}
	}
	m, err := ctrl.NewManager(config, options)
	if err != nil {
		return err
	}
	c := agent.Cluster{Client: m.GetClient(), Namespace: f.namespace, Node: f.node, WithLabels: f.labels}
	a := agent.New(f.node, agent.Socket(f.socket), c, c, slog.Default())
	if err := agent.Add(m, a, c); err != nil {
		return err
	}
	return m.Start(cmd.Context())
}
