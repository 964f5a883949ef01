// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"time"

	"dpservice/dpservice/supervise"
)

// probeTimeout is how long the daemon's own socket may take to answer.
const probeTimeout = 5 * time.Second

// supervise tells the service manager that the daemon is ready, and lives, and reloads the configuration, until ctx is
// done or stop is called.
func (d *daemon) supervise(ctx context.Context, reload Reload) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	s := supervise.New(d.probe, d.log)
	var tasks tasks
	tasks.start(func() { s.Run(ctx) })
	tasks.start(func() { d.followReloads(ctx, reload, s) })
	return func() {
		cancel()
		tasks.wait()
	}
}

// probe asks the socket, as clients do, and each worker.
func (d *daemon) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := d.listener.Probe(ctx); err != nil {
		return err
	}
	if err := d.graph.Ping(); err != nil {
		return fmt.Errorf("a worker does not answer: %w", err)
	}
	return nil
}
