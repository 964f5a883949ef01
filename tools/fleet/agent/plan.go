// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"dpservice/capture/filter"
	"dpservice/capture/spec"
	"dpservice/rpc/api"
	"dpservice/tools/fleet/api/v1alpha1"
)

// The reasons of a node's state.
const (
	reasonCapturing     = "Capturing"
	reasonNotYet        = "NotYet"        // startTime is to come
	reasonNoCollector   = "NoCollector"   // none of the pool receives the capture yet
	reasonNoInterface   = "NoInterface"   // those that were captured are gone
	reasonTaken         = "Taken"         // all interfaces are in captures of others
	reasonInvalidFilter = "InvalidFilter" // the spec has to change
	reasonEndTime       = "EndTime"
	reasonNoDaemon      = "NoDaemon"
	reasonRefused       = "Refused" // the daemon has no reason of its own
)

// limitReasons are those for which a session ends by itself, so that the capture has ended on the node. That its
// duration is over is not among them: the capture's end may have been put off since.
var limitReasons = map[string]string{
	"packets": "Packets", "bytes": "Bytes", "packets_per_second": "PacketsPerSecond",
}

// view is all that decisions are made of: the same view gives the same plan.
type view struct {
	now        time.Time
	node       string
	labels     map[string]string
	interfaces []api.Interface
	sessions   []api.CaptureSession
	history    []api.CaptureSession
	collectors []v1alpha1.PacketCollector
}

// plan is what a node has to do for a capture.
type plan struct {
	over   bool                    // the capture is not this node's any more: its report goes, too
	report bool                    // the node has something to say of the capture
	stop   []string                // sessions, which end first
	start  *api.CaptureStartParams // a session that begins then
	status v1alpha1.NodeStatus     // if all of that succeeds; the counters are those before it
	poll   bool                    // the daemon has to be looked at now and then
	next   time.Time               // when to look again at the latest; zero means when something changes
}

// part is a capture's part of a view, while its plan is made.
type part struct {
	view
	capture  *v1alpha1.PacketCapture
	revision string
	previous *v1alpha1.NodeStatus // as reported; nil if there was no report, or of another revision
	running  []api.CaptureSession // of this revision
	ended    []api.CaptureSession
	plan     plan
}

// plan decides what to do for a capture of which the node has reported previous, unless that is nil.
func (v view) plan(c *v1alpha1.PacketCapture, previous *v1alpha1.NodeStatus) plan {
	p := &part{view: v, capture: c, revision: revisionOf(c.Spec)}
	reported := previous != nil
	if reported && previous.Revision == p.revision {
		p.previous = previous
	}
	p.findSessions()
	p.plan.status = v1alpha1.NodeStatus{ObservedGeneration: c.Generation, Revision: p.revision}
	p.count()
	if c.DeletionTimestamp != nil || !v.selected(c.Spec.Nodes) {
		p.stopAll()
		p.plan.over = true
		return p.plan
	}
	p.decide()
	// A node on which there is nothing to capture says nothing: most nodes have nothing to do with most captures.
	p.plan.report = p.plan.report || reported || len(p.plan.stop) > 0
	return p.plan
}

// findSessions finds the capture's sessions, and has those of another spec, and broken ones, stopped.
func (p *part) findSessions() {
	own := func(s api.CaptureSession) (sessionName, bool) {
		n, ok := parseSessionName(s.Name)
		return n, ok && n.uid == string(p.capture.UID)
	}
	for _, s := range p.sessions {
		n, ok := own(s)
		switch {
		case !ok:
		case n.revision != p.revision || s.State != "active":
			p.plan.stop = append(p.plan.stop, s.Name)
		default:
			p.running = append(p.running, s)
		}
	}
	for _, s := range p.history {
		if n, ok := own(s); ok && n.revision == p.revision {
			p.ended = append(p.ended, s)
		}
	}
}

// count adds up what was copied. The daemon forgets ended sessions, so the result is never less than before.
func (p *part) count() {
	st := &p.plan.status
	if p.previous != nil {
		st.Packets, st.Bytes = p.previous.Packets, p.previous.Bytes
	}
	var packets, bytes int64
	for _, s := range slices.Concat(p.running, p.ended) {
		packets += int64(s.Packets)
		bytes += int64(s.Bytes)
	}
	st.Packets, st.Bytes = max(st.Packets, packets), max(st.Bytes, bytes)
}

func (p *part) stopAll() {
	for _, s := range p.running {
		p.plan.stop = append(p.plan.stop, s.Name)
	}
	p.running = nil
}

func (p *part) become(s v1alpha1.State, reason, text string) {
	p.plan.status.State, p.plan.status.Reason, p.plan.status.Error = s, reason, text
}

// decide decides for a capture that this node is selected for.
func (p *part) decide() {
	wanted := p.targets()
	p.plan.report = len(wanted) > 0 || len(p.running) > 0
	start, end := p.capture.Window()
	switch reason := p.endReason(end); {
	case reason != "":
		p.finish(reason)
		return
	case !p.filterIsValid():
		p.stopAll()
		return
	case p.now.Before(start):
		p.become(v1alpha1.Pending, reasonNotYet, "")
		p.plan.next = start
		return
	}
	p.plan.poll, p.plan.next = true, end
	sink := p.sink()
	p.dropSessions(func(s api.CaptureSession) bool { return sink.port == 0 || !sink.isOf(s) || p.hasOther(s, wanted) })
	if sink.port == 0 {
		p.become(v1alpha1.Pending, reasonNoCollector, sink.missing)
		return
	}
	p.plan.status.Sink = sink.String()
	p.captureMissing(wanted, sink, end)
}

// endReason says why the capture has ended on this node; empty if it has not.
func (p *part) endReason(end time.Time) string {
	if p.previous != nil && p.previous.State == v1alpha1.Ended && p.previous.Reason != reasonEndTime {
		return p.previous.Reason
	}
	for _, s := range p.ended {
		if reason := limitReasons[s.EndReason]; reason != "" {
			return reason
		}
	}
	st := p.plan.status
	switch l := p.capture.Spec.Limits; {
	case !end.IsZero() && !p.now.Before(end):
		return reasonEndTime
	case l == nil:
		return ""
	case l.Packets > 0 && st.Packets >= l.Packets:
		return "Packets"
	case l.Bytes > 0 && st.Bytes >= l.Bytes:
		return "Bytes"
	}
	return ""
}

// finish ends the capture on this node. While sessions run it is not yet over: their last counters come when they have
// ended.
func (p *part) finish(reason string) {
	// Who had nothing to capture until the end has nothing to say.
	p.plan.report = len(p.running)+len(p.ended) > 0
	if len(p.running) > 0 {
		p.stopAll()
		p.become(v1alpha1.Active, reasonCapturing, "")
		p.plan.next = p.now
		return
	}
	p.become(v1alpha1.Ended, reason, "")
}

// filterIsValid compiles the filter, so that a wrong one never reaches the daemon.
func (p *part) filterIsValid() bool {
	links := map[filter.Link]bool{}
	for _, t := range p.targets() {
		if t.vf == "" {
			links[filter.IP] = true
		} else {
			links[filter.Ethernet] = true
		}
	}
	for link := range links {
		if _, err := filter.Compile(p.capture.Spec.Filter, link, spec.MaxRules); err != nil {
			p.become(v1alpha1.Failed, reasonInvalidFilter, err.Error())
			return false
		}
	}
	return true
}

// targets returns the targets that the capture selects on this node, in order.
func (p *part) targets() []target {
	selects := p.capture.Spec.Targets
	var all []target
	for _, i := range p.interfaces {
		if selects.All || selects.VNI != nil && uint32(*selects.VNI) == i.VNI || slices.Contains(selects.Interfaces, i.ID) {
			all = append(all, target{i.ID})
		}
	}
	if selects.PF0 {
		all = append(all, target{})
	}
	return all
}

// hasOther reports whether a session captures something that is not wanted any more.
func (p *part) hasOther(s api.CaptureSession, wanted []target) bool {
	return slices.ContainsFunc(s.Interfaces, func(i api.CaptureInterface) bool {
		t, ok := targetOf(i.CaptureTarget)
		return !ok || !slices.Contains(wanted, t)
	})
}

func (p *part) dropSessions(drop func(api.CaptureSession) bool) {
	p.running = slices.DeleteFunc(p.running, func(s api.CaptureSession) bool {
		if drop(s) {
			p.plan.stop = append(p.plan.stop, s.Name)
			return true
		}
		return false
	})
}

// captureMissing starts a session for the targets that no session captures yet.
func (p *part) captureMissing(wanted []target, sink sink, end time.Time) {
	taken := p.taken()
	var missing []target
	for _, t := range wanted {
		switch by := taken[t]; {
		case by == "":
			missing = append(missing, t)
		case by != mine:
			p.plan.status.Warnings = append(p.plan.status.Warnings, fmt.Sprintf("%s is captured by session %s already", t, by))
		}
	}
	switch {
	case len(missing) > 0:
		p.plan.start = p.params(missing, sink, end)
		p.become(v1alpha1.Active, reasonCapturing, "")
	case len(p.running) > 0:
		p.become(v1alpha1.Active, reasonCapturing, "")
	case len(wanted) > 0:
		p.become(v1alpha1.Failed, reasonTaken, strings.Join(p.plan.status.Warnings, "; "))
	default:
		p.become(v1alpha1.Pending, reasonNoInterface, "")
	}
}

// mine is what taken says of a session of the capture itself.
const mine = "\x00"

// taken returns the sessions that capture targets once those to be stopped have ended.
func (p *part) taken() map[target]string {
	taken := map[target]string{}
	for _, s := range p.sessions {
		if slices.Contains(p.plan.stop, s.Name) {
			continue
		}
		by := s.Name
		if slices.ContainsFunc(p.running, func(r api.CaptureSession) bool { return r.Name == s.Name }) {
			by = mine
		}
		for _, i := range s.Interfaces {
			if t, ok := targetOf(i.CaptureTarget); ok {
				taken[t] = by
			}
		}
	}
	return taken
}

// params returns the parameters of a session for some targets. Its limits are what is left of the capture's.
func (p *part) params(of []target, to sink, end time.Time) *api.CaptureStartParams {
	s := p.capture.Spec
	name := sessionName{string(p.capture.UID), p.revision, 1}
	for _, other := range slices.Concat(p.sessions, p.history) {
		if n, ok := parseSessionName(other.Name); ok && n.uid == name.uid && n.revision == name.revision {
			name.number = max(name.number, n.number+1)
		}
	}
	params := &api.CaptureStartParams{
		SinkNodeIP: to.address, UDPDstPort: uint16(to.port), Name: name.String(),
		Encap: s.Encap, Direction: s.Direction, Drops: s.Drops, Filter: s.Filter,
	}
	for _, t := range of {
		params.Interfaces = append(params.Interfaces, t.selector())
	}
	var limits api.CaptureLimits
	if !end.IsZero() {
		limits.Duration = end.Sub(p.now).Truncate(time.Millisecond).String()
		if limits.Duration == "0s" {
			limits.Duration = "1ms"
		}
	}
	if l := s.Limits; l != nil {
		limits.PacketsPerSecond = uint64(l.PacketsPerSecond)
		if l.Packets > 0 {
			limits.Packets = uint64(l.Packets - p.plan.status.Packets)
		}
		if l.Bytes > 0 {
			limits.Bytes = uint64(l.Bytes - p.plan.status.Bytes)
		}
	}
	if limits != (api.CaptureLimits{}) {
		params.Limits = &limits
	}
	return params
}

// selected reports whether a selection selects this node.
func (v view) selected(s *v1alpha1.NodeSelection) bool {
	if s == nil {
		return true
	}
	if len(s.Names) > 0 && !slices.Contains(s.Names, v.node) {
		return false
	}
	for key, value := range s.MatchLabels {
		if have, ok := v.labels[key]; !ok || have != value {
			return false
		}
	}
	return true
}

// sink is where copies go. Without a port there is none yet, and missing says why.
type sink struct {
	address string
	port    int32
	missing string
}

func (s sink) isOf(session api.CaptureSession) bool {
	return session.SinkNodeIP == s.address && int32(session.UDPDstPort) == s.port
}

func (s sink) String() string { return fmt.Sprintf("[%s]:%d", s.address, s.port) }

// collectorPatience is how long after its begin a capture waits on a node for the collector that is chosen for the
// node, though others receive it already. Without it the first one would get all nodes.
const collectorPatience = 5 * time.Second

// sink returns the capture's sink. Of several collectors it is the one that the node uses already, so that a new one
// does not move captures that run, or else one that is chosen by the node's name, so that they share the nodes.
func (p *part) sink() sink {
	to := p.capture.Spec.Sink
	if to.Collector == "" {
		return sink{address: to.Address, port: to.Port}
	}
	ready := map[string]sink{}
	var able, problems []string
	for _, c := range p.collectors {
		if c.Pool != to.Collector {
			continue
		}
		i := slices.IndexFunc(c.Captures, func(of v1alpha1.CollectedCapture) bool {
			return of.UID == string(p.capture.UID)
		})
		switch {
		case i < 0:
			able = append(able, c.Name)
		case c.Captures[i].Error != "":
			problems = append(problems, c.Name+": "+c.Captures[i].Error)
		case c.Captures[i].Port > 0:
			able = append(able, c.Name)
			ready[c.Name] = sink{address: c.Address, port: c.Captures[i].Port}
		}
	}
	for _, s := range ready {
		if slices.ContainsFunc(p.running, s.isOf) {
			return s
		}
	}
	if len(able) > 0 {
		mine := choose(p.node, slices.Sorted(slices.Values(able)))
		if s, ok := ready[mine]; ok {
			return s
		}
		if start, _ := p.capture.Window(); p.now.Before(start.Add(collectorPatience)) {
			return sink{missing: fmt.Sprintf("collector %s does not receive this capture yet", mine)}
		}
	}
	if len(ready) == 0 {
		slices.Sort(problems)
		return sink{missing: cmp.Or(strings.Join(problems, "; "),
			fmt.Sprintf("no collector of pool %s receives this capture yet", to.Collector))}
	}
	return ready[choose(p.node, slices.Sorted(maps.Keys(ready)))]
}

// choose chooses a collector for a node by rendezvous hashing: if a collector goes, only its nodes go to others.
func choose(node string, collectors []string) string {
	weight := func(c string) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(node + "/" + c)) // never fails
		x := h.Sum64()                         // whose upper bits depend little on the end of the text
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		return x ^ x>>33
	}
	return slices.MaxFunc(collectors, func(a, b string) int { return cmp.Compare(weight(a), weight(b)) })
}
