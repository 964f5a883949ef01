// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/rteflow"
	"dpservice/test/report"
)

var (
	seed     = flag.Uint64("model.seed", 0, "the first case's seed; 0 is a new one each time")
	duration = flag.Duration("model.duration", 15*time.Second, "how long to compare net_eswitch with the reference")
)

// shrinkTime bounds the search for a smaller case.
const shrinkTime = 20 * time.Second

// opKind is a kind of operation.
type opKind int

const (
	opCreate opKind = iota
	opDestroy
	opFlush
	opQuery
	opSend
)

// op is one operation of a case. A rule is known by the number of its creation.
type op struct {
	kind  opKind
	id    int
	port  uint16
	rule  rteflow.Rule
	shots []shot
}

// testCase is a list of operations on a NIC without rules.
type testCase struct {
	isolated map[uint16]bool
	ops      []op
}

// counts are what was compared.
type counts struct {
	cases, rules, refusals, left, packets, unsent, outputs, operations int
	// Rules that NICs differ in, by reason.
	explained map[string]int
}

// makeCase is determined by its seed, and by whether it is for net_mlx5, too.
func makeCase(seed uint64, ports []Port, nics []nic) testCase {
	g := &gen{Rand: rand.New(rand.NewPCG(seed, 0)), ports: ports, forCard: len(nics) > 1}
	g.size = pick(g, 2, 3, 5, 40, 200)
	g.alike = pick(g, 10, 30, 85, 97)
	c := testCase{isolated: map[uint16]bool{}}
	for _, p := range ports {
		c.isolated[p.ID] = g.chance(4)
	}
	most := pick(g, 10, 40, 150, 400)
	var installed []op
	for id := range 100 + 3*most {
		o := g.op(id, installed, most)
		switch o.kind {
		case opCreate:
			installed = append(installed, o)
		case opDestroy:
			installed = slices.DeleteFunc(installed, func(s op) bool { return s.id == o.id })
		case opFlush:
			installed = slices.DeleteFunc(installed, func(s op) bool { return s.port == o.port })
		}
		c.ops = append(c.ops, o)
	}
	return c
}

// op is the next operation. It knows nothing of what the NIC did: a rule it thinks of may have been refused.
func (g *gen) op(id int, installed []op, most int) op {
	dice := g.IntN(1000)
	switch {
	case dice < 3:
		return op{kind: opFlush, port: pick(g, g.ports...).ID}
	case len(installed) > 0 && dice < 60:
		o := pick(g, installed...)
		return op{kind: opQuery, id: o.id, port: o.port}
	case len(installed) > 0 && (dice < 180 || len(installed) > most):
		o := pick(g, installed...)
		return op{kind: opDestroy, id: o.id, port: o.port}
	case dice < 600:
		port, r := g.rule()
		if len(installed) > 0 && g.chance(g.alike) { // of a shape that there is
			port, r = g.sibling(pick(g, installed...))
		}
		for g.forCard && (breaksDriver(r) || handledOtherwise(r)) {
			port, r = g.rule()
		}
		return op{kind: opCreate, id: id, port: port, rule: r}
	}
	rules := make([]rteflow.Rule, len(installed))
	for i, o := range installed {
		rules[i] = o.rule
	}
	o := op{kind: opSend, port: pick(g, g.ports...).ID}
	n := 1 + g.IntN(6)
	if g.chance(5) {
		n = 20 + g.IntN(60) // more than the NIC handles at once
	}
	for range n {
		s := shot{port: pick(g, g.ports...).ID, frame: g.frame(rules)}
		if n > 6 && g.chance(80) {
			s.port = o.port
		}
		if g.forCard && len(s.frame) >= ethLen && !carried(s.frame) {
			s.frame = slices.Concat(s.frame, make([]byte, leastTagged-len(s.frame)))
		}
		if g.chance(10) {
			s.segment = 1 + g.IntN(80)
		}
		s.transmit = g.chance(3) && len(s.frame) >= shortestToSend
		o.shots = append(o.shots, s)
	}
	return o
}

// sibling is a rule that differs from another in its values, perhaps in its priority, but not in its masks.
func (g *gen) sibling(o op) (uint16, rteflow.Rule) {
	r := o.rule
	if g.chance(15) {
		r.Priority = uint32(g.IntN(4))
	}
	r.Pattern = slices.Clone(r.Pattern)
	for i, it := range r.Pattern {
		switch it := it.(type) {
		case rteflow.Eth:
			it.Src, it.Dst = again(it.Src, g.mac), again(it.Dst, g.mac)
			r.Pattern[i] = it
		case rteflow.IPv4:
			it.Src, it.Dst = again(it.Src, g.v4), again(it.Dst, g.v4)
			r.Pattern[i] = it
		case rteflow.IPv6:
			it.Src, it.Dst = again(it.Src, g.v6), again(it.Dst, g.v6)
			r.Pattern[i] = it
		case rteflow.TCP:
			it.SrcPort, it.DstPort = again(it.SrcPort, g.l4Port), again(it.DstPort, g.l4Port)
			r.Pattern[i] = it
		case rteflow.VXLAN:
			it.VNI = again(it.VNI, g.vni)
			r.Pattern[i] = it
		case rteflow.UDP:
			it.SrcPort, it.DstPort = again(it.SrcPort, g.l4Port), again(it.DstPort, g.l4Port)
			r.Pattern[i] = it
		}
	}
	return o.port, r
}

func again[T any](m *rteflow.Match[T], value func() T) *rteflow.Match[T] {
	if m == nil {
		return nil
	}
	return &rteflow.Match[T]{Spec: value(), Mask: m.Mask}
}

// player runs a case on NICs and on the reference.
type player struct {
	devices []*device
	ref     Reference
	rules   map[int]installedRule
	counts  *counts
}

// device is a NIC that plays.
type device struct {
	nic
	handles map[uint32]rteflow.IndirectHandle
	entropy entropies
}

// installedRule is a rule that all devices have taken.
type installedRule struct {
	handles []rteflow.Handle // by device
	flow    *Flow
}

// shareActions makes an indirect counter and an indirect age on each port, on the NICs and for the reference.
func (p *player) shareActions() error {
	p.ref.Shared = map[uint32]*Shared{}
	for id, a := range sharedActions(p.ref.Ports) {
		port := p.ref.Ports[id/2]
		_, counts := a.(rteflow.Count)
		var want error
		if !counts && !agesShared() {
			want = syscall.ENOTSUP
		}
		for _, d := range p.devices {
			h, err := rteflow.CreateIndirect(d.ethdevs().id(port.ID), rteflow.Attr{Ingress: !port.Switch, Transfer: port.Switch},
				a)
			if !errors.Is(err, want) {
				return fmt.Errorf("%s: %v, but wanted %v", d.name(), err, want) //nolint:errorlint // either may be none
			}
			if err == nil {
				d.handles[uint32(id)] = h
			}
		}
		p.ref.Shared[uint32(id)] = &Shared{Port: port.ID, Counts: counts}
	}
	return nil
}

// agesShared says whether the card can share ages: a ConnectX-5 keeps none.
func agesShared() bool { return os.Getenv(cardVariable) != "cx5" }

// sharedActions are two for each port; their places are their IDs.
func sharedActions(ports []Port) (actions []rteflow.Action) {
	for range ports {
		actions = append(actions, rteflow.Count{}, rteflow.Age{Timeout: 1000})
	}
	return actions
}

// unshareActions destroys the indirect actions: counters that rules have only with these.
func (p *player) unshareActions() (difference string, err error) {
	used := map[uint32]bool{}
	for _, s := range p.rules {
		for _, a := range s.flow.Rule.Actions {
			if i, ok := a.(rteflow.Indirect); ok {
				used[i.ID] = true
			}
		}
	}
	for _, d := range p.devices {
		different, err := p.unshare(d, used)
		if err != nil {
			return difference, err
		}
		if different != "" {
			difference = d.name() + ": " + different
		}
	}
	return difference, nil
}

func (p *player) unshare(d *device, used map[uint32]bool) (difference string, err error) {
	id := func(port uint16) uint16 { return d.ethdevs().id(port) }
	for n, h := range d.handles {
		shared := p.ref.Shared[n]
		if !used[n] {
			continue
		}
		if err := rteflow.DestroyIndirect(id(shared.Port), h); (err == nil) == shared.Counts {
			return fmt.Sprintf("destroying indirect action %d, which rules have: %v", n, err), nil
		}
		if !shared.Counts {
			delete(d.handles, n)
		}
	}
	for _, port := range p.ref.Ports {
		if err := rteflow.Flush(id(port.ID)); err != nil {
			return "", err
		}
	}
	for n, h := range d.handles {
		if err := rteflow.DestroyIndirect(id(p.ref.Shared[n].Port), h); err != nil {
			return "", err
		}
	}
	return "", nil
}

// play returns how a NIC differs from the reference, "" if none does; err is the machinery's.
func play(nics []nic, c testCase, n *counts) (difference string, at int, err error) {
	p := &player{ref: Reference{Ports: slices.Clone(thePorts), Card: os.Getenv(cardVariable)},
		rules: map[int]installedRule{}, counts: n}
	for i := range p.ref.Ports {
		p.ref.Ports[i].Isolated = c.isolated[uint16(i)]
	}
	for _, nic := range nics {
		p.devices = append(p.devices, &device{nic, map[uint32]rteflow.IndirectHandle{}, entropies{}})
		if err := nic.reset(c.isolated); err != nil {
			return "", 0, err
		}
		if _, err := nic.exchange(nil, 0, 0); err != nil { // what an earlier difference left behind
			return "", 0, err
		}
	}
	if err := p.shareActions(); err != nil {
		return "", 0, err
	}
	n.cases++
	difference, at, err = p.playAll(c)
	late, errLate := p.unshareActions()
	if difference == "" {
		difference, at = late, max(at, len(c.ops)-1)
	}
	return difference, at, errors.Join(err, errLate)
}

func (p *player) playAll(c testCase) (difference string, at int, err error) {
	for i, o := range c.ops {
		p.counts.operations++
		difference, err := p.do(o)
		if difference != "" || err != nil {
			return difference, i, err
		}
	}
	return p.queryAll(len(c.ops)), len(c.ops) - 1, nil
}

// lateCount is how long a NIC may take until a query tells of all packets. net_mlx5 asks its card once a second.
const lateCount = 5 * time.Second

// queryAll queries all installed rules of the first n that a case may have made, and the indirect counters.
func (p *player) queryAll(n int) (difference string) {
	for i, d := range p.devices {
		begin := time.Now()
		for difference = p.queryDevice(i, n); difference != ""; difference = p.queryDevice(i, n) {
			if !d.countsLate() || time.Since(begin) > lateCount {
				return fmt.Sprintf("at the end, %s, %s", d.name(), difference)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return ""
}

func (p *player) queryDevice(i, n int) (difference string) {
	d := p.devices[i]
	for id := range n {
		if s, ok := p.rules[id]; ok {
			if difference := p.query(d, s.handles[i], s.flow); difference != "" {
				return fmt.Sprintf("rule %d: %s", id, difference)
			}
		}
	}
	for id, h := range d.handles {
		shared := p.ref.Shared[id]
		if !shared.Counts {
			continue
		}
		if got, err := rteflow.QueryIndirect(d.ethdevs().id(shared.Port), h); err != nil || got != shared.Counters {
			return fmt.Sprintf("indirect counter %d is %+v, want %+v, %v", id, got, shared.Counters, err)
		}
	}
	return ""
}

func (p *player) do(o op) (difference string, err error) {
	s, found := p.rules[o.id]
	switch o.kind {
	case opCreate:
		return p.create(o)
	case opFlush:
		p.ref.Flush(o.port)
		for id, s := range p.rules {
			if s.flow.Port == o.port {
				delete(p.rules, id)
			}
		}
		var errs []error
		for _, d := range p.devices {
			errs = append(errs, rteflow.Flush(d.ethdevs().id(o.port)))
		}
		return "", errors.Join(errs...)
	case opQuery:
		for i, d := range p.devices {
			if !found || d.countsLate() {
				continue
			}
			if difference := p.query(d, s.handles[i], s.flow); difference != "" {
				return difference, nil
			}
		}
	case opDestroy:
		if found {
			delete(p.rules, o.id)
			p.ref.Destroy(s.flow)
			return "", p.destroy(o.port, s.handles)
		}
	case opSend:
		return p.send(o.shots)
	}
	return "", nil
}

// destroy takes a rule away from the NICs that have it.
func (p *player) destroy(port uint16, handles []rteflow.Handle) error {
	var errs []error
	for i, d := range p.devices {
		if handles[i] != 0 {
			errs = append(errs, rteflow.Destroy(d.ethdevs().id(port), handles[i]))
		}
	}
	return errors.Join(errs...)
}

func (p *player) create(o op) (difference string, err error) {
	answers := make([]error, len(p.devices))
	handles := make([]rteflow.Handle, len(p.devices))
	judged := ""
	for i, d := range p.devices {
		id, rule := d.ethdevs().id(o.port), d.ethdevs().rule(o.rule, d.handles)
		validated := rteflow.Validate(id, rule)
		handles[i], answers[i] = rteflow.Create(id, rule)
		if why := p.judge(o, validated, answers[i]); why != "" && judged == "" {
			judged = d.name() + ": " + why
		}
	}
	p.counts.rules++
	why, explained := p.compareAnswers(o, answers)
	switch {
	case why != "":
		return why, nil
	case explained: // and the reference agrees with one of them only
		return "", p.destroy(o.port, handles)
	}
	if slices.ContainsFunc(answers, func(err error) bool { return err != nil }) {
		p.counts.refusals++
		return judged, p.destroy(o.port, handles)
	}
	p.rules[o.id] = installedRule{handles, p.ref.Create(o.port, o.rule)}
	return judged, nil
}

// judge tells how the answers of one NIC differ from what the reference expects.
func (p *player) judge(o op, validated, created error) string {
	verdict, why := p.ref.Check(o.port, o.rule)
	if p.ref.Card == "cx5" {
		verdict = Either // the reference does not know what a ConnectX-5 cannot do
	}
	valid, invalid := p.ref.Valid(o.port, o.rule)
	switch {
	case validated != nil && created == nil:
		return fmt.Sprintf("validate says %v, create takes it", validated)
	case verdict != Either && (valid == Accepted) != (validated == nil):
		return fmt.Sprintf("validate says %v, but has to say: %s", validated, invalid)
	case verdict == Either:
		p.counts.left++
	case verdict == Refused && created == nil:
		return "taken, but has to be refused: " + why
	case verdict == Accepted && created != nil:
		return "refused: " + created.Error()
	}
	return ""
}

func (p *player) query(d *device, h rteflow.Handle, f *Flow) string {
	got, err := rteflow.Query(d.ethdevs().id(f.Port), h)
	counts, want := p.ref.Counters(f)
	switch {
	case counts && err != nil:
		return "query: " + err.Error()
	case counts && got != want:
		return fmt.Sprintf("counters are %+v, want %+v", got, want)
	case counts || err != nil:
		return ""
	case !d.countsLate() || !p.ref.agesByCounter(f.Rule) || !slices.ContainsFunc(f.Rule.Actions, ages):
		return "a rule that does not count was queried"
	}
	return ""
}

func (p *player) send(shots []shot) (string, error) {
	if len(p.devices) > 1 {
		before := len(shots)
		shots = slices.DeleteFunc(slices.Clone(shots), func(s shot) bool {
			if s.transmit {
				return p.ref.TakesSent(s.port, s.frame)
			}
			return p.ref.Ties(s.port, s.frame)
		})
		p.counts.unsent += before - len(shots)
	}
	var want []Output
	for _, s := range shots {
		if s.transmit {
			want = append(want, Output{From: -1 - int(s.port), Port: s.port, Queue: FarSide, Frame: s.frame})
			continue
		}
		want = append(want, p.ref.Receive(s.port, s.frame)...)
	}
	p.counts.packets += len(shots)
	for _, d := range p.devices {
		difference, err := p.exchange(d, shots, want)
		if difference != "" || err != nil {
			return d.name() + ": " + difference, err
		}
	}
	return "", nil
}

// exchange has one NIC handle the frames, and compares what comes out with what the reference wants.
func (p *player) exchange(d *device, shots []shot, ordered []Output) (string, error) {
	ordered = slices.DeleteFunc(slices.Clone(ordered), d.hides)
	// Those that come for sure first, so that none of these is taken for one that may come.
	want := mandatoryFirst(ordered)
	perhaps := 0
	for _, w := range want {
		perhaps += flag01(w.Perhaps)
	}
	got, err := d.exchange(shots, len(want), perhaps)
	if err != nil {
		return "", err
	}
	p.counts.outputs += len(got)
	if difference := d.entropy.compare(want, got); difference != "" {
		return difference, nil
	}
	return d.entropy.order(ordered, got), nil
}

// shrink takes operations and frames away while the case still fails, for a limited time.
func shrink(nics []nic, c testCase) testCase {
	begin := time.Now()
	fails := func(ops []op) bool {
		if time.Since(begin) > shrinkTime {
			return false
		}
		difference, _, err := play(nics, testCase{c.isolated, ops}, newCounts())
		return difference != "" || err != nil
	}
	for size := len(c.ops) / 2; size > 0; size /= 2 {
		for progress := true; progress; {
			before := len(c.ops)
			c.ops = without(c.ops, size, fails)
			progress = size == 1 && len(c.ops) < before
		}
	}
	for i, o := range c.ops {
		ops := slices.Clone(c.ops)
		c.ops[i].shots = without(o.shots, 1, func(fewer []shot) bool {
			ops[i].shots = fewer
			return len(fewer) > 0 && fails(ops)
		})
	}
	return c
}

// without takes size elements at a time away from list, from its end on, where the rest still fails.
func without[T any](list []T, size int, fails func([]T) bool) []T {
	for at := len(list) - size; at >= 0; at -= size {
		if fewer := slices.Concat(list[:at], list[at+size:]); fails(fewer) {
			list = fewer
		}
	}
	return list
}

// String is the case as commands for testpmd; what it has no command for is a comment.
func (c testCase) String() string {
	var lines []string
	for port, on := range c.isolated {
		if on {
			lines = append(lines, fmt.Sprintf("flow isolate %d 1", port))
		}
	}
	for _, o := range c.ops {
		switch o.kind {
		case opCreate:
			lines = append(append(lines, fmt.Sprintf("# rule %d:", o.id)), o.rule.Commands(o.port)...)
		case opDestroy:
			lines = append(lines, fmt.Sprintf("# destroy rule %d of port %d", o.id, o.port))
		case opFlush:
			lines = append(lines, fmt.Sprintf("flow flush %d", o.port))
		case opQuery:
			lines = append(lines, fmt.Sprintf("# query rule %d of port %d", o.id, o.port))
		case opSend:
			for _, s := range o.shots {
				from := "far side of"
				if s.transmit {
					from = "application to"
				}
				lines = append(lines, fmt.Sprintf("# %s port %d, in segments of %d: %x", from, s.port, s.segment, s.frame))
			}
		}
	}
	return strings.Join(lines, "\n")
}

func newCounts() *counts { return &counts{explained: map[string]int{}} }

// compareFor plays random cases on the NICs for some time, and fails the test when one differs from the reference or,
// in a way that is not explained, from another.
func compareFor(t *testing.T, nics []nic, duration time.Duration) (first uint64, n *counts) {
	t.Helper()
	if first = *seed; first == 0 {
		first = rand.Uint64N(1 << 40)
	}
	// Not t.Log: it has to be known when a NIC crashes, too.
	fmt.Fprintf(os.Stderr, "model: first seed %d\n", first)
	n = newCounts()
	for s, begin := first, time.Now(); time.Since(begin) < duration; s++ {
		c := makeCase(s, thePorts, nics)
		difference, at, err := play(nics, c, n)
		require.NoError(t, err, "-model.seed=%d", s)
		if difference == "" {
			continue
		}
		small := shrink(nics, testCase{c.isolated, c.ops[:at+1]})
		again, _, err := play(nics, small, newCounts())
		t.Fatalf("the NIC differs, found after %d operations and %d packets; replay with -model.seed=%d\n%s\n"+
			"shrunk to %d operations:\n%s\n%s %v", n.operations, n.packets, s, difference, len(small.ops), small, again, err)
	}
	require.NotZero(t, n.refusals)
	return first, n
}

func TestNICAgainstModel(t *testing.T) {
	first, n := compareFor(t, nics[:1], *duration)
	report.Printf(t,
		"model: %d rules (%d refused, %d left to the driver), %d packets (%d came out), %d operations compared in %d "+
			"cases from seed %d",
		n.rules, n.refusals, n.left, n.packets, n.outputs, n.operations, n.cases, first)
}
