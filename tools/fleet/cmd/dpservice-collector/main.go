// SPDX-License-Identifier: Apache-2.0

// Command dpservice-collector receives the copies of PacketCaptures into files, and takes these to a store.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"dpservice/tools/fleet/collector"
	"dpservice/tools/fleet/internal/bucket"
	"dpservice/tools/fleet/internal/command"
)

// flags are those of the command that are not in collector.Config as they are.
type flags struct {
	config          collector.Config
	address, store  string
	metrics, podUID string
	rotateMiB       int64
	bufferMiB       int
}

func main() {
	var f flags
	cmd := &cobra.Command{
		Use:   "dpservice-collector",
		Short: "Receive the copies of PacketCaptures into files",
		Long: `Receive the copies of the PacketCaptures whose sink is this collector's pool, each at a UDP port of its own,
into files below --dir: CAPTURE_UID/COLLECTOR_NUMBER_TIME.pcapng. With --store each complete file goes to a bucket, and is
then removed; the keys are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.config.Name, "name", os.Getenv("POD_NAME"), "name of this collector (default $POD_NAME)")
	flags.StringVar(&f.podUID, "pod-uid", os.Getenv("POD_UID"), "UID of the pod that this collector goes with (default $POD_UID)")
	flags.StringVar(&f.config.Namespace, "namespace", "dpservice", "namespace of this collector")
	flags.StringVar(&f.config.Pool, "pool", "default", "pool of this collector")
	flags.StringVar(&f.address, "address", os.Getenv("POD_IP"),
		"IPv6 address that the underlay routes to this collector (default $POD_IP)")
	flags.Uint16Var(&f.config.FirstPort, "first-port", 3100, "first UDP port for copies")
	flags.IntVar(&f.config.Ports, "ports", 64, "how many UDP ports to use: as many captures are received at once")
	flags.StringVar(&f.config.Dir, "dir", "/var/lib/dpservice-collector", "folder for the files")
	flags.IntVar(&f.bufferMiB, "buffer", 32, "MiB that the kernel may hold for each capture")
	flags.Int64Var(&f.rotateMiB, "rotate-size", 256, "MiB after which a new file begins; 0 sets no limit")
	flags.DurationVar(&f.config.RotateInterval, "rotate-interval", 10*time.Minute,
		"time after which a new file begins; 0 sets no limit")
	flags.IntVar(&f.config.Files, "files", 0, "how many files to keep of each capture, the newest; 0 keeps all")
	flags.StringVar(&f.store, "store", "", "bucket that files go to: https://HOST[:PORT]/BUCKET")
	flags.StringVar(&f.metrics, "metrics", "0", "address at which metrics are shown; 0 shows none")
	os.Exit(command.Run(cmd))
}

func run(cmd *cobra.Command, f flags) error {
	c, err := f.collectorConfig()
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	options := command.ManagerOptions()
	options.Metrics = metricsserver.Options{BindAddress: f.metrics}
	options.GracefulShutdownTimeout = new(time.Minute) // the last files
	options.Client = collector.ClientOptions()
	m, err := ctrl.NewManager(config, options)
	if err != nil {
		return err
	}
	if err := collector.Add(m, c, slog.Default()); err != nil {
		return err
	}
	return m.Start(cmd.Context())
}

func (f flags) collectorConfig() (c collector.Config, err error) {
	const mib = 20
	c = f.config
	c.RotateSize, c.Buffer = f.rotateMiB<<mib, f.bufferMiB<<mib
	if c.Name == "" {
		return c, errors.New("--name: want the name of this collector")
	}
	if c.Address, err = netip.ParseAddr(f.address); err != nil || !c.Address.Is6() {
		return c, fmt.Errorf("--address %q: want an IPv6 address that the underlay routes to this collector", f.address)
	}
	if f.podUID != "" {
		c.Owner = &metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: c.Name, UID: types.UID(f.podUID)}
	}
	if f.store != "" {
		made, name, err := bucket.Open(f.store)
		if err != nil {
			return c, fmt.Errorf("--store: %w", err)
		}
		c.Upload = collector.Bucket{Client: made, Name: name}
	}
	return c, nil
}
