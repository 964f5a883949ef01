// SPDX-License-Identifier: Apache-2.0

// Package agent does a node's part of PacketCaptures: it has the node's dpservice capture what they say, and reports.
//
// It decides anew, each time that something may have changed, from the resources and from what the daemon says, and
// keeps nothing that it could not do without. So it goes on after a restart of itself or of the daemon. Sessions are
// known by their names; those that people have started are never touched.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/tools/fleet/api/v1alpha1"
	"dpservice/tools/fleet/internal/clock"
)

const (
	// PollInterval is how often the daemon is asked while a capture may run here: it does not tell of interfaces that come
	// and go. The socket is local, so this costs no other machine anything.
	PollInterval = 2 * time.Second
	// retryFirst and retryMost bound the time after which a refused start is tried again, which doubles each time.
	retryFirst = 2 * time.Second
	retryMost  = 2 * time.Minute
	// maxWarnings and maxText bound what a node reports.
	maxWarnings = 8
	maxText     = 512
)

// Resources are the cluster's resources, as far as they are known: a cache.
type Resources interface {
	Captures(ctx context.Context) ([]v1alpha1.PacketCapture, error)
	Collectors(ctx context.Context) ([]v1alpha1.PacketCollector, error)
	// Labels returns those of the node.
	Labels(ctx context.Context) (map[string]string, error)
}

// Agent is the agent of a node. It is not safe for concurrent use.
type Agent struct {
	node      string
	daemon    Daemon
	resources Resources
	reporter  *reporter
	now       func() time.Time
	clock     func() *v1alpha1.Clock
	log       *slog.Logger
	retries   map[string]retry // by the captures' UIDs
}

// retry is a start that was refused.
type retry struct {
	generation int64 // of the capture's spec
	failures   int
	until      time.Time // when it is tried again
	reason     string
	text       string
}

// New returns the Agent of a node.
func New(node string, d Daemon, r Resources, reports Reports, log *slog.Logger) *Agent {
	return &Agent{
		node: node, daemon: d, resources: r, now: time.Now, clock: clock.Now, log: log, retries: map[string]retry{},
		reporter: &reporter{node: node, reports: reports},
	}
}

// Sync brings the daemon and the reports to where the resources want them. It returns after which time it is to be
// called again if nothing changes before; zero means never. After an error it is to be called again, after a while.
func (a *Agent) Sync(ctx context.Context) (time.Duration, error) {
	captures, err := a.resources.Captures(ctx)
	if err != nil {
		return 0, fmt.Errorf("listing the captures: %w", err)
	}
	if err := a.reporter.load(ctx); err != nil {
		return 0, fmt.Errorf("listing this node's reports: %w", err)
	}
	round := &round{Agent: a, ctx: ctx, now: a.now()}
	if err := round.observe(); err != nil {
		return round.wait(), errors.Join(err, round.reportNoDaemon(captures, err))
	}
	var failed []error
	if err := round.stopOrphans(captures); err != nil {
		failed = append(failed, err)
	}
	for i := range captures {
		if err := round.serve(&captures[i]); err != nil {
			failed = append(failed, fmt.Errorf("capture %s: %w", captures[i].Name, err))
		}
	}
	return round.wait(), errors.Join(failed...)
}

// round is one call of Sync.
type round struct {
	*Agent
	ctx      context.Context
	now      time.Time
	view     view
	underlay string
	next     time.Time // when to sync again; zero means never
}

// observe asks the daemon what there is.
func (r *round) observe() error {
	status, err := r.daemon.Captures(r.ctx)
	if err != nil {
		return err
	}
	interfaces, err := r.daemon.Interfaces(r.ctx)
	if err != nil {
		return err
	}
	if r.underlay, err = r.daemon.UnderlayIP(r.ctx); err != nil {
		return err
	}
	collectors, err := r.resources.Collectors(r.ctx)
	if err != nil {
		return fmt.Errorf("listing the collectors: %w", err)
	}
	labels, err := r.resources.Labels(r.ctx)
	if err != nil {
		return fmt.Errorf("the node's labels: %w", err)
	}
	r.view = view{
		now: r.now, node: r.node, labels: labels, interfaces: interfaces, sessions: status.Sessions, history: status.History,
		collectors: collectors,
	}
	return nil
}

// wait returns how long it is until the next sync.
func (r *round) wait() time.Duration {
	if r.next.IsZero() {
		return 0
	}
	return max(r.next.Sub(r.now), time.Millisecond)
}

// at has the agent sync again at a time, or before.
func (r *round) at(t time.Time) {
	if !t.IsZero() && (r.next.IsZero() || t.Before(r.next)) {
		r.next = t
	}
}

// stopOrphans ends the sessions of captures that are gone, and then removes their reports.
func (r *round) stopOrphans(captures []v1alpha1.PacketCapture) error {
	isGone := func(uid string) bool {
		return !slices.ContainsFunc(captures, func(c v1alpha1.PacketCapture) bool { return string(c.UID) == uid })
	}
	var orphans []string
	for _, s := range r.view.sessions {
		if n, ok := parseSessionName(s.Name); ok && isGone(n.uid) {
			orphans = append(orphans, s.Name)
		}
	}
	if err := r.stop(orphans); err != nil {
		return err
	}
	for uid := range r.retries {
		if isGone(uid) {
			delete(r.retries, uid)
		}
	}
	return r.reporter.removeAll(r.ctx, isGone)
}

// serve does this node's part of a capture, and reports it.
func (r *round) serve(c *v1alpha1.PacketCapture) error {
	uid := string(c.UID)
	p := r.view.plan(c, r.reporter.status(uid))
	if err := r.stop(p.stop); err != nil {
		return err
	}
	if p.over {
		delete(r.retries, uid)
		return r.reporter.remove(r.ctx, uid)
	}
	r.at(p.next)
	if p.poll {
		r.at(r.now.Add(PollInterval))
	}
	if p.start == nil {
		delete(r.retries, uid)
	} else {
		r.start(c, &p)
	}
	if !p.report {
		return nil
	}
	r.describe(c, &p.status)
	due, err := r.reporter.write(r.ctx, c, p.status, r.now)
	r.at(due)
	return err
}

// start starts the session of a plan. If the daemon refuses it, the plan's status says so, and it is tried again later
// and later.
func (r *round) start(c *v1alpha1.PacketCapture, p *plan) {
	uid := string(c.UID)
	last := r.retries[uid]
	if last.generation != c.Generation {
		last = retry{generation: c.Generation}
	}
	if !r.now.Before(last.until) {
		s, err := r.daemon.Start(r.ctx, *p.start)
		if err == nil {
			r.log.Info("capturing", "capture", c.Name, "session", s.Name, "interfaces", len(s.Interfaces))
			r.view.sessions = append(slices.Clone(r.view.sessions), s)
			delete(r.retries, uid)
			return
		}
		last.reason, last.text = refusal(err)
		last.until = r.now.Add(min(retryFirst<<min(last.failures, 10), retryMost))
		last.failures++
		r.log.Warn("the capture is not started", "capture", c.Name, "err", err, "failures", last.failures)
		r.retries[uid] = last
	}
	r.at(last.until)
	p.status.Reason, p.status.Error = last.reason, last.text
	if !slices.ContainsFunc(r.view.sessions, isOf(uid)) {
		p.status.State = v1alpha1.Failed
	}
}

// refusal returns why the daemon did not do something: a word, and its message.
func refusal(err error) (reason, text string) {
	var refused *client.Error
	switch {
	case errors.As(err, &refused) && refused.Data.Reason != "":
		return refused.Data.Reason, err.Error()
	case errors.As(err, &refused):
		return reasonRefused, err.Error()
	}
	return reasonNoDaemon, err.Error()
}

// stop ends sessions. It is no error if they have already ended.
func (r *round) stop(names []string) error {
	for _, name := range names {
		err := r.daemon.Stop(r.ctx, name)
		var refused *client.Error
		over := errors.As(err, &refused) && (refused.Code == api.CodeNotActive || refused.Code == api.CodeNotFound)
		if err != nil && !over {
			return fmt.Errorf("stopping session %s: %w", name, err)
		}
		r.log.Info("stopped", "session", name)
		r.view.sessions = slices.DeleteFunc(slices.Clone(r.view.sessions),
			func(s api.CaptureSession) bool { return s.Name == name })
		r.at(r.now.Add(time.Millisecond)) // the daemon has the last counters now
	}
	return nil
}

// isOf returns whether sessions are a capture's.
func isOf(uid string) func(api.CaptureSession) bool {
	return func(s api.CaptureSession) bool {
		n, ok := parseSessionName(s.Name)
		return ok && n.uid == uid
	}
}

// describe completes a status by what runs for the capture.
func (r *round) describe(c *v1alpha1.PacketCapture, st *v1alpha1.NodeStatus) {
	st.UnderlayIP, st.Clock = r.underlay, r.clock()
	for _, s := range r.view.sessions {
		if !isOf(string(c.UID))(s) {
			continue
		}
		for _, i := range s.Interfaces {
			st.Interfaces = append(st.Interfaces, r.toInterface(i))
		}
		st.Warnings = append(st.Warnings, s.Warnings...)
	}
	slices.Sort(st.Warnings)
	st.Warnings = slices.Compact(st.Warnings)
	if n := len(st.Warnings) - maxWarnings; n > 0 {
		st.Warnings = append(st.Warnings[:maxWarnings], fmt.Sprintf("and %d more", n))
	}
	for i := range st.Warnings {
		st.Warnings[i] = cut(st.Warnings[i])
	}
	st.Error = cut(st.Error)
}

func (r *round) toInterface(i api.CaptureInterface) v1alpha1.NodeInterface {
	t, _ := targetOf(i.CaptureTarget)
	to := v1alpha1.NodeInterface{
		Name: t.String(), Direction: i.Direction, Label: int32(i.Label), Mode: i.Mode,
		Packets: int64(i.Packets), Bytes: int64(i.Bytes),
	}
	for _, known := range r.view.interfaces {
		if known.ID == t.vf {
			to.VNI = int32(known.VNI)
		}
	}
	return to
}

// cut shortens a text that is too long for a report.
func cut(text string) string {
	if len(text) > maxText {
		return text[:maxText-3] + "..."
	}
	return text
}

// reportNoDaemon says in all reports that the daemon does not answer. Sessions may run on meanwhile.
func (r *round) reportNoDaemon(captures []v1alpha1.PacketCapture, err error) error {
	var failed []error
	for i := range captures {
		c := &captures[i]
		st := r.reporter.status(string(c.UID))
		if st == nil || st.State == v1alpha1.Ended {
			continue
		}
		st.State, st.Reason, st.Error = v1alpha1.Failed, reasonNoDaemon, cut(err.Error())
		due, err := r.reporter.write(r.ctx, c, *st, r.now)
		r.at(due)
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}
