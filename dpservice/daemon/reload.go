// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"log/slog"
	"os"
	"strings"

	"dpservice/dpservice/config"
	"dpservice/dpservice/supervise"
	"dpservice/graph"
)

// Reload is how a daemon that runs gets another configuration. The zero value is never.
type Reload struct {
	Requests <-chan os.Signal
	Load     func() (config.Config, error)
	Level    *slog.LevelVar // of the log
}

// followReloads carries requests out until ctx is done.
func (d *daemon) followReloads(ctx context.Context, reload Reload, s *supervise.Supervisor) {
	running := d.cfg // what the parts run with; d.cfg is what they were made with
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload.Requests:
			s.Reloading(func() { running = d.reload(reload, running) })
		}
	}
}

// reload applies what another configuration says that can be applied to a daemon that runs, and returns what it then
// runs with. It logs what needs a restart. A configuration that is wrong changes nothing.
func (d *daemon) reload(reload Reload, running config.Config) config.Config {
	next, err := reload.Load()
	if err != nil {
		d.log.Error("the configuration is not reloaded: it is wrong", "err", err)
		return running
	}
	var applied, needRestart []string
	for _, key := range config.Changed(running, next) {
		if d.reloads(key, next) {
			applied = append(applied, key)
		} else {
			needRestart = append(needRestart, key)
		}
	}
	if err := d.apply(reload, next); err != nil {
		d.log.Error("the configuration is not reloaded in whole", "err", err)
		return running
	}
	running.LogLevel, running.RPC, running.Access = next.LogLevel, next.RPC, next.Access
	if d.reloads("audit", next) {
		running.Audit = next.Audit
	}
	running.Flows.Timeouts = next.Flows.Timeouts
	d.log.Info("the configuration is reloaded", "changed", applied)
	if len(needRestart) > 0 {
		d.log.Warn("changes that need a restart of dpservice", "keys", needRestart)
	}
	return running
}

// reloads reports whether a key that has changed takes effect without a restart. The audit log can be moved, but
// neither begin nor end.
func (d *daemon) reloads(key string, next config.Config) bool {
	section, _, _ := strings.Cut(key, ".")
	switch {
	case key == "log_level", key == "access", section == "rpc", strings.HasPrefix(key, "flows.timeouts."):
		return true
	case key == "audit":
		return d.audit != nil && next.Audit != ""
	}
	return false
}

// apply hands the parts what they can change.
func (d *daemon) apply(reload Reload, c config.Config) error {
	if err := d.graph.SetTimeouts(graph.Timeouts(c.Flows.Timeouts)); err != nil {
		return err
	}
	if d.reloads("audit", c) {
		if err := d.audit.Reopen(c.Audit); err != nil {
			return err
		}
	}
	d.server.SetAccess(d.policy(c.Access))
	d.server.SetBounds(c.RPC.MaxClients, c.RPC.MaxClientsPerUser, c.RPC.IdleTimeout, c.RPC.RequestTimeout)
	reload.Level.Set(c.LogLevel)
	return nil
}
