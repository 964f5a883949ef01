// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/test/report"
	"dpservice/test/topology"
)

// faultyLab is a lab in which the NIC of the first daemon refuses calls, while guests exchange packets.
type faultyLab struct {
	*lab
	points int // number of faults tried
}

// state is what is installed at a time.
type state struct {
	nic        []string   // the rules that the NIC reports
	rules      []api.Rule // the rules that dpservice reports
	interfaces []api.Interface
	targets    []string // of the capture
}

// get calls a method of the first daemon directly, not through dpctl, because there are many calls.
func get[R any](f *faultyLab, method api.AnyMethod, params any) (result R) {
	f.t.Helper()
	require.NoError(f.t, client.CallAny(f.ctx, f.daemons[0].Socket, method, params, &result))
	return result
}

// invoke calls a method of the first daemon. If the daemon refuses, the error is a *client.Error.
func (f *faultyLab) invoke(method api.AnyMethod, params any) error {
	f.t.Helper()
	err := client.CallAny(f.ctx, f.daemons[0].Socket, method, params, nil)
	var refused *client.Error
	if err != nil {
		require.ErrorAs(f.t, err, &refused)
	}
	return err
}

func (f *faultyLab) startCapture() error {
	pf0 := 0
	return f.invoke(api.MethodCaptureStart, api.CaptureStartParams{
		SinkNodeIP: f.net.SinkIP.String(), UDPSrcPort: 3000, UDPDstPort: 3010,
		Interfaces: []api.CaptureSelector{{VF: "vm-1"}, {VF: "vm-2"}, {PF: &pf0}},
	})
}

// startReceived captures what vm-1 receives.
func (f *faultyLab) startReceived() error {
	return f.invoke(api.MethodCaptureStart, api.CaptureStartParams{
		SinkNodeIP: f.net.SinkIP.String(), UDPSrcPort: 3000, UDPDstPort: 3010, Direction: "tx",
		Interfaces: []api.CaptureSelector{{VF: "vm-1"}},
	})
}

// startFiltered starts a capture with a filter, of which some rules let packets pass.
func (f *faultyLab) startFiltered() error {
	return f.invoke(api.MethodCaptureStart, api.CaptureStartParams{
		SinkNodeIP: f.net.SinkIP.String(), UDPSrcPort: 3000, UDPDstPort: 3010,
		Filter:     "icmp6 and not ip6 host fd00::9 or tcp",
		Interfaces: []api.CaptureSelector{{VF: "vm-1"}, {VF: "vm-2"}},
	})
}

func (f *faultyLab) stopCapture() error { return f.invoke(api.MethodCaptureStop, nil) }

func (f *faultyLab) deleteInterface() error {
	return f.invoke(api.MethodInterfaceDelete, api.InterfaceID{ID: "vm-2"})
}

func (f *faultyLab) createInterface() error {
	vm2 := f.vms[1]
	return f.invoke(api.MethodInterfaceCreate, api.InterfaceCreateParams{
		ID: vm2.ID, Device: vm2.Device, VNI: topology.VNI, IPv4: vm2.IPv4.String(), IPv6: vm2.IPv6.String(),
	})
}

// idle makes sure that all interfaces exist, and that nothing is captured.
func (f *faultyLab) idle() {
	f.t.Helper()
	if s := f.state(); s.targets != nil {
		require.NoError(f.t, f.stopCapture())
	}
	if s := f.state(); len(s.interfaces) < 2 {
		require.NoError(f.t, f.createInterface())
	}
	f.settle()
}

// captured makes sure that all interfaces exist, and captures them.
func (f *faultyLab) captured() {
	f.t.Helper()
	f.idle()
	require.NoError(f.t, f.startCapture())
}

// received makes sure that all interfaces exist, and captures what vm-1 receives.
func (f *faultyLab) received() {
	f.t.Helper()
	f.idle()
	require.NoError(f.t, f.startReceived())
}

// filtered makes sure that all interfaces exist, and captures two with a filter.
func (f *faultyLab) filtered() {
	f.t.Helper()
	f.idle()
	require.NoError(f.t, f.startFiltered())
}

// settle waits until the NIC forwards the guests' packets: the flows between vm-1 and vm-2, and between vm-1 and vm-3,
// in both directions.
func (f *faultyLab) settle() {
	f.t.Helper()
	const flows = 4
	f.eventually(func() error {
		offloaded := 0
		for _, flow := range get[api.FlowListResult](f, api.MethodFlowList, nil).Flows {
			if strings.HasPrefix(flow.Proto, "icmp") && flow.Offloaded {
				offloaded++
			}
		}
		if offloaded < flows {
			return fmt.Errorf("%d of %d flows: %w", offloaded, flows, errNotOffloaded)
		}
		return nil
	})
}

// state returns the state that the daemon and the NIC report. The two must agree; state asks again if they do not, as a
// flow may just begin or end.
func (f *faultyLab) state() (s state) {
	f.t.Helper()
	f.eventually(func() error {
		s = state{
			rules:      get[api.RuleListResult](f, api.MethodRuleList, nil).Rules,
			interfaces: get[api.InterfaceListResult](f, api.MethodInterfaceList, nil).Interfaces,
		}
		for _, session := range get[api.CaptureStatusResult](f, api.MethodCaptureStatus, nil).Sessions {
			s.targets = targets(session)
		}
		s.nic = f.nicLines()
		believed := s.simplify()
		if !f.net.NIC.ListsFlows {
			return nil
		}
		inNIC, err := f.nicRules(s.nic)
		if err == nil && !slices.Equal(inNIC, believed) {
			err = fmt.Errorf("the NIC holds %v, and rule.list says %v", inNIC, believed)
		}
		return err
	})
	return s
}

// aMark matches the MAC of decapsulated packets, as rules and NICs write it.
var aMark = regexp.MustCompile(`02:64:70:73:00:..|0264707300..`)

// simplify removes what differs between two states that are the same. It returns the rules as the NIC describes them.
func (s *state) simplify() (rules []nicRule) {
	for i := range s.rules {
		r := &s.rules[i]
		r.Hits, r.Bytes = nil, nil
		rules = append(rules, nicRule{r.Port, r.Domain, r.Group, r.Priority})
		r.Pattern, r.Actions = aMark.ReplaceAllString(r.Pattern, "mark"), aMark.ReplaceAllString(r.Actions, "mark")
		for _, kind := range []string{"flow", "tunnel"} {
			if strings.HasPrefix(r.Name, kind+"/") {
				r.Name = kind // each time a flow begins it has another id, and a tunnel another mark
			}
		}
	}
	for i, line := range s.nic {
		s.nic[i] = aMark.ReplaceAllString(line, "mark")
	}
	slices.Sort(s.nic)
	slices.SortFunc(rules, nicRule.compare)
	slices.SortFunc(s.rules, func(a, b api.Rule) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return rules
}

// becomes waits until the state is as wanted: after a change, flows begin and end.
func (f *faultyLab) becomes(want state, why ...any) {
	f.t.Helper()
	f.eventually(func() error {
		if now := f.state(); !reflect.DeepEqual(want, now) {
			return fmt.Errorf("%v: wanted %+v, got %+v", why, want, now)
		}
		return nil
	})
}

// operation is a change of rules, from the state that prepare makes.
type operation struct {
	name    string
	prepare func(*faultyLab)
	do      func(*faultyLab) error
	call    string // the kind of its calls
	undo    string // the kind of calls of its undo
	calls   int    // the least number of its calls

	harmless bool // guests lose nothing, even if it succeeds
}

var operations = []operation{
	{"capture.start", (*faultyLab).idle, (*faultyLab).startCapture, "create", "destroy", 7, true},
	{"capture.stop", (*faultyLab).captured, (*faultyLab).stopCapture, "destroy", "create", 7, true},
	{"capture.start, tx", (*faultyLab).idle, (*faultyLab).startReceived, "create", "destroy", 2, true},
	{"capture.stop, tx", (*faultyLab).received, (*faultyLab).stopCapture, "destroy", "create", 2, true},
	{"capture.start, filtered", (*faultyLab).idle, (*faultyLab).startFiltered, "create", "destroy", 12, true},
	{"capture.stop, filtered", (*faultyLab).filtered, (*faultyLab).stopCapture, "destroy", "create", 12, true},
	{"interface.delete", (*faultyLab).idle, (*faultyLab).deleteInterface, "destroy", "destroy", 4, false},
	{"interface.delete, while captured", (*faultyLab).captured, (*faultyLab).deleteInterface, "destroy", "create", 6,
		false},
}

// TestEveryCallFails refuses each call to the NIC of an operation in turn, and with each of them every call of the
// undo, while guests exchange packets. Afterwards either the old or the new state is installed, or the capture is
// broken, reports what is installed, and a stop repairs it. The NIC has the rules of rule.list, guests lose no packets,
// and the error has all details.
func TestEveryCallFails(t *testing.T) {
	f := newFaultyLab(t)
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			defer func(outer *testing.T) { f.t = outer }(f.t)
			f.t = t
			test(t)
		})
	}
	if f.net.NIC.ReportsDestroy {
		run("limit", f.limit)
	}
	for _, op := range operations {
		if op.call == "destroy" && !f.net.NIC.ReportsDestroy {
			continue
		}
		run(op.name, func(t *testing.T) {
			noLosses, software := f.losses(), f.softwareLookups()
			silence := f.talk()
			f.every(op)
			if op.harmless {
				require.Equal(t, software, f.softwareLookups(), "packets of the guests' flows on the software path")
			}
			silence()
			if op.harmless {
				noLosses()
			}
		})
	}
	run("interface.create", func(t *testing.T) { f.createUnderFaults() })
	report.Printf(t, "end to end under injected faults on %s: fault points tried: %d", f.net.NIC.Driver, f.points)
}

// limit lets a capture reach its limit under injected faults.
func (f *faultyLab) limit(t *testing.T) {
	noLosses, software := f.losses(), f.softwareLookups()
	silence := f.talk()
	f.limitUnderFaults()
	require.Equal(t, software, f.softwareLookups(), "packets of the guests' flows on the software path")
	silence()
	noLosses()
}

// createUnderFaults refuses each call that creates an interface's own rules, and then those of the undo. Afterwards
// there is no interface, or one that must be deleted. The guests are silent, so that no other rules are created.
func (f *faultyLab) createUnderFaults() {
	silence := f.talk()
	f.idle()
	silence()
	idle := f.state()
	require.NoError(f.t, f.deleteInterface())
	without := f.state()
	points := [][]refusal{{{call: "create", nth: 1}}, {{call: "create", nth: 2}}}
	if f.net.NIC.ReportsDestroy {
		points = append(points, []refusal{{call: "create", nth: 2}, {call: "destroy", nth: 1}},
			[]refusal{{call: "create", nth: 2}, {call: "destroy", nth: 1, all: true}})
	}
	for _, refusals := range points {
		f.refuse(refusals...)
		err := f.createInterface()
		require.True(f.t, f.relent(), "%v: %v", refusals, err)
		f.points++
		f.checkRefused(err)
		if refused(err).Code == api.CodeRollbackFailed {
			require.True(f.t, refusals[len(refusals)-1].all, "%v", refusals)
			require.Equal(f.t, idle.interfaces, f.state().interfaces)
			require.NoError(f.t, f.deleteInterface())
		}
		f.becomes(without, refusals)
	}
	require.NoError(f.t, f.createInterface())
	require.Equal(f.t, idle.interfaces, f.state().interfaces)
	defer f.talk()()
	f.settle()
}

// limitUnderFaults refuses each call that ends a filtered capture at its limit. The capture continues and reports the
// error, and ends when the NIC no longer refuses.
func (f *faultyLab) limitUnderFaults() {
	idle, pf0 := f.state(), 0
	nth := 1
	for ; ; nth++ {
		f.refuse(refusal{call: "destroy", nth: nth})
		require.NoError(f.t, f.invoke(api.MethodCaptureStart, api.CaptureStartParams{
			Name: "limited", SinkNodeIP: f.net.SinkIP.String(), UDPSrcPort: 3000, UDPDstPort: 3010, Filter: "ip6 or ip",
			Limits:     &api.CaptureLimits{Packets: 20},
			Interfaces: []api.CaptureSelector{{VF: "vm-1"}, {PF: &pf0}},
		}))
		warned := false
		f.eventually(func() error {
			status := get[api.CaptureStatusResult](f, api.MethodCaptureStatus, nil)
			for _, s := range status.Sessions {
				warned = warned || strings.Contains(strings.Join(s.Warnings, "\n"),
					"its limit is reached (packets), but it goes on: ")
			}
			if status.Active {
				return errors.New("the capture goes on")
			}
			return nil
		})
		ended := f.ended("limited")
		require.Equal(f.t, "packets", ended.EndReason)
		require.GreaterOrEqual(f.t, ended.Packets, uint64(20))
		f.becomes(idle, nth)
		if !f.relent() {
			break
		}
		f.points++
		require.True(f.t, warned, "refusal %d was not said", nth)
	}
	const rules = 6 // at least: two redirects, and two rules of each port
	require.Greater(f.t, nth, rules)
}

// newFaultyLab starts a daemon whose NIC can be made to fail, and guests whose flows are in this NIC. The sources of
// tunnels are not checked, so each guest has rules of its own.
func newFaultyLab(t *testing.T) *faultyLab {
	t.Helper()
	f := &faultyLab{lab: newLab(t, topology.DaemonConfig{Telemetry: true, FlowTimeout: time.Hour,
		Underlay: "check_source: false"}, 2, 1)}
	vm1, vm2, vm3 := f.vms[0], f.vms[1], f.vms[2]
	f.reach(vm1, vm2.IPv4.String())
	f.reach(vm3, vm1.IPv6.String())
	f.settle()
	return f
}

// talk makes vm-1 exchange packets with vm-2 on the same hypervisor, and with vm-3 on another one.
func (f *faultyLab) talk() (silence func()) {
	f.t.Helper()
	local, remote := f.pingOn(f.vms[0], f.vms[1].IPv4.String()), f.pingOn(f.vms[2], f.vms[0].IPv6.String())
	return func() { f.t.Helper(); local(); remote() }
}

// quiet is how long flows may begin and end after a change.
const quiet = 100 * time.Millisecond

// every refuses each call of one operation in turn.
func (f *faultyLab) every(op operation) {
	f.idle()
	idle := f.state()
	op.prepare(f)
	require.NoError(f.t, op.do(f))
	time.Sleep(quiet)
	newState := f.state()

	before, nth := f.points, 1
	for f.refuses(op, idle, newState, refusal{call: op.call, nth: nth}) {
		if op.undo != "destroy" || f.net.NIC.ReportsDestroy {
			f.everyUndo(op, idle, newState, nth)
		}
		nth++
	}
	require.GreaterOrEqual(f.t, nth-1, op.calls)
	f.t.Logf("%d calls of the NIC, fault points tried: %d", nth-1, f.points-before)
}

// everyUndo refuses the nth call of an operation and, one by one and all at once, the calls of the undo.
func (f *faultyLab) everyUndo(op operation, idle, newState state, nth int) {
	f.t.Helper()
	undo := refusal{call: op.undo, nth: 1}
	if op.undo == op.call {
		undo.nth = nth + 1
	}
	all := undo
	all.all = true
	f.refuses(op, idle, newState, refusal{call: op.call, nth: nth}, all)
	for f.refuses(op, idle, newState, refusal{call: op.call, nth: nth}, undo) {
		undo.nth++
	}
}

// refuses runs an operation under refusals. It returns whether the NIC has reached the last of them.
func (f *faultyLab) refuses(op operation, idle, newState state, refusals ...refusal) bool {
	f.t.Helper()
	op.prepare(f)
	old := f.state()
	f.refuse(refusals...)
	err := op.do(f)
	all := f.relent()
	if err != nil {
		f.points++
	}
	if err == nil {
		require.False(f.t, all, "%v: a refusal is no success", refusals)
		f.becomes(newState, refusals)
		return false
	}
	f.checkRefused(err)
	if refused(err).Code == api.CodeRuleRejected {
		f.becomes(old, refusals)
		return all
	}
	require.Greater(f.t, len(refusals), 1, "%v: there was nothing to hinder the undo: %v", refusals, err)
	f.settle()
	require.Equal(f.t, old.interfaces, f.state().interfaces)
	f.repair(op, err)
	f.becomes(idle, refusals, "what was repaired")
	return all
}

// repair does what a ROLLBACK_FAILED asks for: it stops a broken capture, and deletes an interface that lacks rules.
func (f *faultyLab) repair(op operation, err error) {
	f.t.Helper()
	deleting := strings.HasPrefix(op.name, "interface.")
	if s := f.state(); s.targets != nil {
		if !deleting || f.session().State == "broken" {
			f.checkBroken(err)
		}
		require.NoError(f.t, f.stopCapture())
	}
	if deleting {
		require.NoError(f.t, f.deleteInterface())
		f.idle()
	}
}

func refused(err error) *client.Error {
	var e *client.Error
	errors.As(err, &e)
	return e
}

// checkRefused requires that an error has the port, the rule, the errno and the driver's message.
func (f *faultyLab) checkRefused(err error) {
	f.t.Helper()
	e := refused(err)
	require.Contains(f.t, []api.Code{api.CodeRuleRejected, api.CodeRollbackFailed}, e.Code, e.Message)
	require.Contains(f.t, []string{"vm-1", "vm-2", "pf0", f.net.NIC.PFs[0], f.net.NIC.VF(1)}, e.Data.Interface,
		"a flow's rule may be of a port that is not captured")
	require.Regexp(f.t, `^group \d+ priority \d+ transfer pattern .* / end actions .* / end$`, e.Data.Rule)
	require.EqualValues(f.t, refusedErrno, e.Data.Errno)
	require.Contains(f.t, e.Data.RTEFlowError, f.net.NIC.Refusal)
	require.Contains(f.t, e.Message, "port "+f.net.NIC.PFs[0])
	require.Contains(f.t, e.Message, e.Data.Rule)
	require.Contains(f.t, e.Message, refusedErrno.Error())
}

// checkBroken requires that the capture says for each port which of its rules are installed.
func (f *faultyLab) checkBroken(err error) {
	f.t.Helper()
	s := f.session()
	require.Equal(f.t, "broken", s.State)
	said := func(warning string) bool { return strings.Contains(err.Error(), warning) }
	require.True(f.t, slices.ContainsFunc(s.Warnings, said), "%v: %v", err, s.Warnings)
	for _, i := range s.Interfaces {
		require.Regexp(f.t, `\(port `+i.Port+`\): (as before|no rule of the capture is installed|installed: capture/)`,
			err.Error())
	}
}

// TestFlowsUnderFaults refuses the calls that offload flows and that remove them. The flows stay in software and are
// offered again, or are removed a little later. No packet is lost.
func TestFlowsUnderFaults(t *testing.T) {
	f := newFaultyLab(t)
	vm1, vm2 := f.vms[0], f.vms[1]
	const flowsOfARun = 4 // iperf3's control and data connections, both ways
	old, noLosses := f.state(), f.losses()
	for nth := range flowsOfARun {
		f.refuse(refusal{call: "create", nth: nth + 1})
		port := 5201 + nth
		run := f.startIperf(vm1, vm2, vm2.IPv4.String(), port, 2*time.Second, "5M")
		f.eventually(f.relented)
		run.wait()
		require.True(t, f.relent())
		f.points++
		require.Len(t, f.state().rules, len(old.rules)+(nth+1)*flowsOfARun, "the flow was offered again")
	}
	noLosses()
	f.logged("a flow stays in software: the NIC cannot take its rule")
	if f.net.NIC.ReportsDestroy {
		f.keepRules()
	}
	report.Printf(t, "flow offload end to end under injected faults on %s: fault points tried: %d", f.net.NIC.Driver,
		f.points)
}

// keepRules refuses the calls that remove a flow from the NIC.
func (f *faultyLab) keepRules() {
	defer f.talk()()
	vm3, d := f.vms[2], f.daemons[0]
	route := map[string]any{"vni": topology.VNI, "prefix": vm3.IPv6.String() + "/128"}
	routes := get[api.RouteListResult](f, api.MethodRouteList, nil)
	for nth := range 3 { // the flow's, and the second and third attempt
		var refusals []refusal
		for i := range nth + 1 {
			refusals = append(refusals, refusal{call: "destroy", nth: i + 1})
		}
		before := f.state()
		f.refuse(refusals...)
		require.NoError(f.t, f.invoke(api.MethodRouteDelete, route))
		f.eventually(f.relented)
		f.eventually(func() error {
			if now := len(f.state().rules); now != len(before.rules)-1 {
				return fmt.Errorf("%d rules of %d", now, len(before.rules))
			}
			return nil
		})
		require.True(f.t, f.relent())
		f.points++
		for _, r := range routes.Routes {
			if r.Prefix == route["prefix"] {
				require.NoError(f.t, d.Call(f.ctx, api.MethodRouteAdd, r, nil))
			}
		}
		f.settle()
		require.Equal(f.t, before, f.state())
	}
	f.logged("the NIC does not remove a flow's rule")
}

// TestTheNICRefusesTheBaseRules refuses each of the rules that the daemon needs to start. The daemon says which rule
// was refused, and leaves nothing behind.
func TestTheNICRefusesTheBaseRules(t *testing.T) {
	ctx, n := newNetwork(t, 2)
	h := n.Hypervisors[0]
	if !n.NIC.ListsFlows {
		refuseTheDriver(ctx, t, h)
		return
	}
	const (
		tried = 6  // before: how rules name ports, two of each guest for the TTL
		rules = 14 // six of PF0, four of each guest
	)
	for nth := range rules {
		d, err := h.LaunchDaemon(topology.DaemonConfig{NICArgs: failArgs(refusal{call: "create", nth: tried + nth + 1})})
		require.NoError(t, err)
		r, err := d.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, r.Code, r.Stderr)
		require.Regexp(t, `cannot set the NIC's base rules: add rule "base/.*" to port \d: .*`+refusedErrno.Error()+
			`.*the rule: group (0 priority [02]|2 priority 0|\d+ priority 2) .*pattern .* / end actions .* / end`, r.Stderr)
		require.Contains(t, r.Stderr, n.NIC.Refusal)
		require.NoFileExists(t, d.Socket)
	}
	d, err := h.StartDaemon(ctx, topology.DaemonConfig{NICArgs: failArgs(refusal{call: "create", nth: tried + rules + 1})})
	require.NoError(t, err, "there are no more")
	require.NoError(t, d.Stop(ctx))
	report.Printf(t, "start under injected faults: fault points tried: %d", rules)
}

// refuseTheDriver refuses each rule of the card that implements dpservice's base rules, and some rules that the driver
// creates for itself before. The driver may not need these; otherwise the daemon ends and says why.
func refuseTheDriver(ctx context.Context, t *testing.T, h *topology.Hypervisor) {
	t.Helper()
	b := &lab{t: t, ctx: ctx, daemons: []*topology.Daemon{startDaemon(ctx, t, h, topology.DaemonConfig{})},
		net: &topology.Network{NIC: h.NIC()}}
	made := b.created()
	require.NoError(t, b.daemons[0].Stop(ctx))
	const (
		own  = 20 // of dpservice: those that it tries, and the base rules
		step = 7
	)
	refused, without := 0, 0
	for nth := 1; nth <= made; nth++ {
		if nth <= made-own && nth%step != 0 {
			continue
		}
		d, err := h.LaunchDaemon(topology.DaemonConfig{NICArgs: failArgs(refusal{call: "create", nth: nth})})
		require.NoError(t, err)
		if d.Ready(ctx) == nil {
			require.NoError(t, d.Stop(ctx), "refusal %d", nth)
			without++
			continue
		}
		r, err := d.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, r.Code, "refusal %d: %s", nth, r.Stderr)
		require.Regexp(t, `dpservice: cannot (find the ports|start the ports|set the NIC's base rules): `, r.Stderr)
		require.NoFileExists(t, d.Socket)
		refused++
	}
	require.Greater(t, refused, 12, "the base rules")
	report.Printf(t, "start under injected faults on %s: fault points tried: %d, and %d that it does without",
		h.NIC().Driver, refused, without)
}

// TestTheNICKeepsARuleAtTheEnd refuses the removal of a rule when the daemon ends. The daemon reports it, and ends.
func TestTheNICKeepsARuleAtTheEnd(t *testing.T) {
	f := newFaultyLab(t)
	f.refuse(refusal{call: "destroy", nth: 3})
	r, err := f.daemons[0].Process.Stop(f.ctx, syscall.SIGTERM)
	require.NoError(t, err)
	if f.net.NIC.ReportsDestroy {
		require.Equal(t, 1, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, "cannot remove the rules: remove rule")
		require.Contains(t, r.Stderr, f.net.NIC.Refusal)
	} else {
		require.Zero(t, r.Code, r.Stderr)
	}
	require.NoFileExists(t, f.daemons[0].Socket)
}

// logged requires that the daemon has logged a refusal with all its details.
func (f *faultyLab) logged(message string) {
	f.t.Helper()
	for line := range strings.Lines(f.daemons[0].Stderr.String()) {
		if strings.Contains(line, message) {
			require.Regexp(f.t, `port \d`, line)
			require.Regexp(f.t, `group [24] priority 1 transfer pattern .* / end actions .* / end`, line)
			require.Contains(f.t, line, refusedErrno.Error())
			require.Contains(f.t, line, f.net.NIC.Refusal)
			return
		}
	}
	require.Fail(f.t, "the daemon has not logged "+message)
}
