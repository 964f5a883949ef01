// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"dpservice/rpc/api"
	"dpservice/tools/fleet/api/v1alpha1"
	"dpservice/tools/fleet/test/fakedaemon"
)

const node = "hv1"

// world is a node with its daemon, and the resources of its cluster.
type world struct {
	t          testing.TB
	now        time.Time
	daemon     *fakedaemon.Daemon
	captures   map[string]*v1alpha1.PacketCapture
	collectors map[string]*v1alpha1.PacketCollector
	reports    map[string]v1alpha1.PacketCaptureNode
	labels     map[string]string
	writes     int
	failing    func() bool // whether a write fails, which may all the same have been carried out
	uids       int
	agent      *Agent
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), daemon: fakedaemon.New("fc00:1::1"),
		captures: map[string]*v1alpha1.PacketCapture{}, collectors: map[string]*v1alpha1.PacketCollector{},
		reports: map[string]v1alpha1.PacketCaptureNode{}, labels: map[string]string{"rack": "r1"},
	}
	w.daemon.Now = func() time.Time { return w.now }
	w.restartAgent()
	return w
}

func (w *world) restartAgent() {
	w.agent = New(node, w.daemon, w, w, slog.New(slog.DiscardHandler))
	w.agent.now = func() time.Time { return w.now }
}

func (w *world) Captures(context.Context) (all []v1alpha1.PacketCapture, _ error) {
	for _, name := range slices.Sorted(maps.Keys(w.captures)) {
		all = append(all, *w.captures[name])
	}
	return all, nil
}

func (w *world) Collectors(context.Context) (all []v1alpha1.PacketCollector, _ error) {
	for _, name := range slices.Sorted(maps.Keys(w.collectors)) {
		all = append(all, *w.collectors[name])
	}
	return all, nil
}

func (w *world) Labels(context.Context) (map[string]string, error) { return w.labels, nil }

var resource = schema.GroupResource{Group: "dpservice.dev", Resource: "packetcapturenodes"}

func (w *world) List(_ context.Context, label string) (all []v1alpha1.PacketCaptureNode, _ error) {
	for _, r := range w.reports {
		if r.Labels[v1alpha1.LabelNode] == label {
			all = append(all, r)
		}
	}
	return all, nil
}

func (w *world) Get(_ context.Context, name string) (*v1alpha1.PacketCaptureNode, error) {
	r, ok := w.reports[name]
	if !ok {
		return nil, apierrors.NewNotFound(resource, name)
	}
	return r.DeepCopy(), nil
}

func (w *world) Create(_ context.Context, r *v1alpha1.PacketCaptureNode) error {
	if _, ok := w.reports[r.Name]; ok {
		return apierrors.NewAlreadyExists(resource, r.Name)
	}
	w.writes++
	if w.failing != nil && w.failing() {
		return apierrors.NewTimeoutError("the server is slow", 1)
	}
	w.reports[r.Name] = *r.DeepCopy()
	if w.failing != nil && w.failing() {
		return apierrors.NewTimeoutError("the server is slow", 1)
	}
	return nil
}

func (w *world) Update(_ context.Context, r *v1alpha1.PacketCaptureNode) error {
	if _, ok := w.reports[r.Name]; !ok {
		return apierrors.NewNotFound(resource, r.Name)
	}
	w.writes++
	if w.failing != nil && w.failing() {
		return apierrors.NewTimeoutError("the server is slow", 1)
	}
	w.reports[r.Name] = *r.DeepCopy()
	if w.failing != nil && w.failing() {
		return apierrors.NewTimeoutError("the server is slow", 1)
	}
	return nil
}

func (w *world) Delete(_ context.Context, r *v1alpha1.PacketCaptureNode) error {
	if _, ok := w.reports[r.Name]; !ok {
		return apierrors.NewNotFound(resource, r.Name)
	}
	delete(w.reports, r.Name)
	return nil
}

// sync has the agent do what is due until it has nothing to do for a while, or at most for the given time.
func (w *world) sync(most time.Duration) {
	w.t.Helper()
	end := w.now.Add(most)
	for range 10000 {
		wait, err := w.agent.Sync(w.t.Context())
		if err != nil {
			wait = time.Second // what the controller's rate limiter does
		}
		if wait == 0 || w.now.Add(wait).After(end) {
			w.now = end
			return
		}
		w.now = w.now.Add(wait)
	}
	require.Fail(w.t, "the agent does not come to rest")
}

// create creates a capture of a VNI to a sink, unless change makes it another one.
func (w *world) create(name string, change func(*v1alpha1.PacketCaptureSpec)) *v1alpha1.PacketCapture {
	w.uids++
	vni := int32(100)
	c := &v1alpha1.PacketCapture{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", w.uids)), Generation: 1,
			CreationTimestamp: metav1.NewTime(w.now),
		},
		Spec: v1alpha1.PacketCaptureSpec{
			Targets: v1alpha1.Targets{VNI: &vni}, Sink: v1alpha1.Sink{Address: "fc00:99::1", Port: 3010},
			Direction: "rx", Encap: "udp",
		},
	}
	if change != nil {
		change(&c.Spec)
	}
	w.captures[name] = c
	return c
}

func (w *world) status(name string) v1alpha1.NodeStatus {
	w.t.Helper()
	r, ok := w.reports[name+"."+node]
	require.True(w.t, ok, "no report of %s", name)
	return r.Status
}

func (w *world) sessions() []api.CaptureSession {
	status, err := w.daemon.Captures(w.t.Context())
	require.NoError(w.t, err)
	return status.Sessions
}

// captured returns what the agent's sessions capture, with how many sessions do.
func (w *world) captured(uid types.UID) map[string]int {
	all := map[string]int{}
	for _, s := range w.sessions() {
		if isOf(string(uid))(s) {
			for _, i := range s.Interfaces {
				t, _ := targetOf(i.CaptureTarget)
				all[t.String()]++
			}
		}
	}
	return all
}

func TestInterfacesAreFollowed(t *testing.T) {
	w := newWorld(t)
	c := w.create("a", nil)
	w.sync(10 * time.Second)
	assert.Empty(t, w.reports, "a node without such an interface says nothing")

	w.daemon.AddInterface("vm-1", 100)
	w.daemon.AddInterface("vm-9", 200)
	w.sync(10 * time.Second)
	assert.Equal(t, map[string]int{"vm-1": 1}, w.captured(c.UID))
	first := w.sessions()[0]
	st := w.status("a")
	assert.Equal(t, v1alpha1.Active, st.State)
	assert.Equal(t, "[fc00:99::1]:3010", st.Sink)
	assert.Equal(t, "fc00:1::1", st.UnderlayIP)
	require.Len(t, st.Interfaces, 1)
	assert.EqualValues(t, 100, st.Interfaces[0].VNI)

	w.daemon.AddInterface("vm-2", 100)
	w.sync(10 * time.Second)
	assert.Equal(t, map[string]int{"vm-1": 1, "vm-2": 1}, w.captured(c.UID))
	assert.Equal(t, first.Name, w.sessions()[0].Name, "what was captured goes on without a gap")

	w.daemon.DeleteInterface("vm-1")
	w.daemon.DeleteInterface("vm-2")
	w.sync(10 * time.Second)
	assert.Equal(t, v1alpha1.Pending, w.status("a").State)
	assert.Equal(t, reasonNoInterface, w.status("a").Reason)

	delete(w.captures, "a")
	w.sync(10 * time.Second)
	assert.Empty(t, w.reports)
}

func TestTheSpecMayChange(t *testing.T) {
	w := newWorld(t)
	w.daemon.AddInterface("vm-1", 100)
	c := w.create("a", nil)
	w.sync(10 * time.Second)
	c.Generation, c.Spec.Filter, c.Spec.Drops, c.Spec.Direction = 2, "udp", true, "none"
	w.sync(10 * time.Second)
	require.Len(t, w.sessions(), 1)
	s := w.sessions()[0]
	assert.Equal(t, "udp", s.Filter)
	assert.True(t, s.Drops)
	assert.Equal(t, "none", s.Direction)
	assert.EqualValues(t, 2, w.status("a").ObservedGeneration)

	c.Generation, c.Spec.Filter = 3, "udp prot 53"
	w.sync(10 * time.Second)
	assert.Empty(t, w.sessions(), "a wrong filter reaches no daemon")
	assert.Equal(t, reasonInvalidFilter, w.status("a").Reason)
	assert.Contains(t, w.status("a").Error, "prot")

	c.Generation, c.Spec.Filter = 4, ""
	c.Spec.Nodes = &v1alpha1.NodeSelection{MatchLabels: map[string]string{"rack": "r2"}}
	w.sync(10 * time.Second)
	assert.Empty(t, w.reports)
	w.labels = map[string]string{"rack": "r2"}
	w.sync(10 * time.Second)
	assert.Equal(t, v1alpha1.Active, w.status("a").State)
}

func TestLimits(t *testing.T) {
	w := newWorld(t)
	w.daemon.AddInterface("vm-1", 100)
	w.create("packets", func(s *v1alpha1.PacketCaptureSpec) { s.Limits = &v1alpha1.Limits{Packets: 10} })
	w.sync(10 * time.Second)
	w.daemon.Copy(6)
	w.daemon.AddInterface("vm-2", 100)
	w.sync(10 * time.Second)
	require.Len(t, w.sessions(), 2)
	assert.EqualValues(t, 4, w.sessions()[1].Limits.Packets, "what is left")
	w.daemon.Copy(3)
	w.sync(10 * time.Second)
	assert.Empty(t, w.sessions())
	st := w.status("packets")
	assert.Equal(t, v1alpha1.Ended, st.State)
	assert.Equal(t, "Packets", st.Reason)
	assert.EqualValues(t, 12, st.Packets)
	assert.EqualValues(t, 1200, st.Bytes)
	w.daemon.Forget()
	w.restartAgent()
	w.sync(time.Minute)
	assert.Empty(t, w.sessions(), "it does not begin again")
	assert.EqualValues(t, 12, w.status("packets").Packets)
}

func TestWindow(t *testing.T) {
	w := newWorld(t)
	w.daemon.AddInterface("vm-1", 100)
	w.create("a", func(s *v1alpha1.PacketCaptureSpec) {
		s.StartTime = &metav1.Time{Time: w.now.Add(time.Minute)}
		s.Duration = &metav1.Duration{Duration: time.Hour}
	})
	w.sync(59 * time.Second)
	assert.Equal(t, reasonNotYet, w.status("a").Reason)
	w.sync(2 * time.Second)
	require.Len(t, w.sessions(), 1)
	assert.Equal(t, "1h0m0s", w.sessions()[0].Limits.Duration, "the daemon ends it also without its agent")
	w.daemon.Copy(7)
	first := w.sessions()[0].Name
	c := w.captures["a"]
	c.Generation, c.Spec.Duration = 2, &metav1.Duration{Duration: 2 * time.Hour}
	w.sync(30 * time.Minute)
	require.Len(t, w.sessions(), 1)
	assert.Equal(t, first, w.sessions()[0].Name, "a later end changes nothing")
	w.sync(time.Hour)
	require.Len(t, w.sessions(), 1, "nor does the end that the daemon knew")
	w.sync(time.Hour)
	assert.Empty(t, w.sessions())
	assert.Equal(t, v1alpha1.Ended, w.status("a").State)
	assert.Equal(t, reasonEndTime, w.status("a").Reason)
	assert.EqualValues(t, 7, w.status("a").Packets)
}

func TestRefusalsAreTriedAgainLaterAndLater(t *testing.T) {
	w := newWorld(t)
	w.daemon.AddInterface("vm-1", 100)
	w.daemon.SetRefuse(true)
	w.create("a", nil)
	w.sync(30 * time.Minute)
	st := w.status("a")
	assert.Equal(t, v1alpha1.Failed, st.State)
	assert.Equal(t, "RULE_REJECTED", st.Reason)
	assert.Equal(t, "the driver refused a rule", st.Error)
	assert.Equal(t, 1, w.writes, "nothing has changed since")
	w.daemon.SetRefuse(false)
	w.sync(retryMost)
	assert.Equal(t, v1alpha1.Active, w.status("a").State)
	assert.Empty(t, w.status("a").Error)
}

func TestReportsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.daemon.AddInterface("vm-1", 100)
	w.create("a", nil)
	w.sync(10 * time.Second)
	before := w.writes
	for range 60 {
		w.daemon.Copy(1)
		w.sync(5 * time.Second)
	}
	assert.LessOrEqual(t, w.writes-before, 11, "counters alone in 5 minutes")
	assert.Greater(t, w.status("a").Packets, int64(50))

	before = w.writes
	for i := range 60 {
		w.daemon.SetDown(i%2 == 0)
		w.sync(time.Second)
	}
	assert.LessOrEqual(t, w.writes-before, 31, "states in a minute")
	assert.Less(t, len(cut(strings.Repeat("a", 10000))), 600)
}

func TestCollectorsShareTheNodes(t *testing.T) {
	w := newWorld(t)
	w.daemon.AddInterface("vm-1", 100)
	toPool := func(s *v1alpha1.PacketCaptureSpec) { s.Sink = v1alpha1.Sink{Collector: "default"} }
	c := w.create("a", toPool)
	w.sync(time.Second)
	assert.Empty(t, w.reports, "a collector needs a moment")
	w.sync(10 * time.Second)
	assert.Equal(t, reasonNoCollector, w.status("a").Reason)

	receives := []v1alpha1.CollectedCapture{{UID: string(c.UID), Port: 3100}}
	add := func(name string, captures []v1alpha1.CollectedCapture) {
		w.collectors[name] = &v1alpha1.PacketCollector{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Pool: "default", Address: "fc00:99::" + name, Captures: captures,
		}
	}
	add("1", nil)
	w.sync(10 * time.Second)
	assert.Equal(t, reasonNoCollector, w.status("a").Reason, "it does not receive yet")
	add("1", receives)
	w.sync(10 * time.Second)
	assert.Equal(t, "[fc00:99::1]:3100", w.status("a").Sink)
	for i := range 9 {
		add(fmt.Sprint(i+1), receives)
	}
	w.sync(10 * time.Second)
	assert.Equal(t, "[fc00:99::1]:3100", w.status("a").Sink, "what runs does not move")
	delete(w.collectors, "1")
	w.sync(10 * time.Second)
	assert.NotEqual(t, "[fc00:99::1]:3100", w.status("a").Sink)
	assert.Equal(t, v1alpha1.Active, w.status("a").State)

	soon := w.create("b", toPool)
	w.sync(time.Second)
	w.collectors = map[string]*v1alpha1.PacketCollector{}
	add("1", []v1alpha1.CollectedCapture{{UID: string(soon.UID), Port: 3101}})
	w.sync(time.Millisecond)
	assert.Equal(t, v1alpha1.Active, w.status("b").State, "the first report says what has become of it, at once")

	// The node's collector may be the last one that is ready. If it never is, another one has to do.
	w.collectors = map[string]*v1alpha1.PacketCollector{}
	w.daemon.AddInterface("vm-2", 200)
	other := int32(200)
	late := w.create("c", func(s *v1alpha1.PacketCaptureSpec) { toPool(s); s.Targets.VNI = &other })
	receivesLate := []v1alpha1.CollectedCapture{{UID: string(late.UID), Port: 3102}}
	mine, others := choose(node, []string{"1", "2"}), map[string]string{"1": "2", "2": "1"}
	add(mine, nil)
	add(others[mine], receivesLate)
	w.sync(collectorPatience - time.Second)
	assert.Contains(t, w.status("c").Error, "collector "+mine+" does not receive")
	add(mine, receivesLate)
	w.sync(time.Millisecond)
	w.sync(3 * time.Second)
	assert.Equal(t, "[fc00:99::"+mine+"]:3102", w.status("c").Sink)
	delete(w.captures, "c")
	w.sync(time.Minute)
	late = w.create("c", func(s *v1alpha1.PacketCaptureSpec) { toPool(s); s.Targets.VNI = &other })
	add(mine, nil)
	add(others[mine], []v1alpha1.CollectedCapture{{UID: string(late.UID), Port: 3102}})
	w.sync(2 * collectorPatience)
	assert.Equal(t, "[fc00:99::"+others[mine]+"]:3102", w.status("c").Sink)

	// Of many nodes each collector gets about as many.
	counts := map[string]int{}
	for i := range 3000 {
		counts[choose(fmt.Sprintf("hv%d", i), []string{"collector-0", "collector-1", "collector-2"})]++
	}
	for _, n := range counts {
		assert.InDelta(t, 1000, n, 150)
	}
}

// Whatever happens, in any order: when the agent has come to rest, what should be captured is, once, and nothing else;
// and people's captures are untouched.
func TestRandomEvents(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t)
			random := rand.New(rand.NewPCG(seed, 1))
			byHand := map[string]bool{}
			w.failing = func() bool { return random.IntN(4) == 0 }
			for range 60 {
				w.happen(random, byHand)
				if random.IntN(3) > 0 {
					w.sync(time.Duration(random.IntN(5000)) * time.Millisecond)
				}
				for _, name := range w.daemon.Stopped() {
					_, ok := parseSessionName(name)
					require.True(t, ok, "%s was started by hand", name)
				}
			}
			w.failing = nil
			w.daemon.SetDown(false)
			w.daemon.SetRefuse(false)
			w.sync(2 * retryMost)
			w.check()
		})
	}
}

// happen changes something.
func (w *world) happen(random *rand.Rand, byHand map[string]bool) {
	name := string(rune('a' + random.IntN(3)))
	vm := fmt.Sprintf("vm-%d", random.IntN(5))
	switch random.IntN(14) {
	case 0:
		if w.captures[name] == nil {
			w.create(name, func(s *v1alpha1.PacketCaptureSpec) { randomSpec(random, w.now, s) })
		}
	case 1:
		delete(w.captures, name)
	case 2:
		if c := w.captures[name]; c != nil {
			c.Generation++
			randomSpec(random, w.now, &c.Spec)
		}
	case 3:
		if c := w.captures[name]; c != nil {
			c.DeletionTimestamp = &metav1.Time{Time: w.now}
		}
	case 4, 5:
		w.daemon.AddInterface(vm, uint32(100+random.IntN(2)*100))
	case 6:
		w.daemon.DeleteInterface(vm)
	case 7:
		w.restartAgent()
	case 8:
		w.daemon.SetDown(random.IntN(2) == 0)
	case 9:
		w.daemon.SetRefuse(random.IntN(2) == 0)
	case 10:
		w.daemon.Forget()
		w.daemon.Lose()
	case 11:
		s, err := w.daemon.Start(w.t.Context(), api.CaptureStartParams{
			Name: fmt.Sprintf("mine-%d", len(byHand)), SinkNodeIP: "fc00:99::9", UDPDstPort: 9,
			Interfaces: []api.CaptureSelector{{VF: vm}},
		})
		if err == nil {
			byHand[s.Name] = true
		}
	case 12:
		w.daemon.Copy(uint64(random.IntN(20)))
	case 13:
		w.now = w.now.Add(time.Duration(random.IntN(100)) * time.Second)
	}
}

func randomSpec(random *rand.Rand, now time.Time, s *v1alpha1.PacketCaptureSpec) {
	vni := int32(100 + 100*random.IntN(2))
	s.Targets = []v1alpha1.Targets{
		{VNI: &vni}, {All: true}, {Interfaces: []string{"vm-0", "vm-1"}}, {PF0: true, VNI: &vni},
	}[random.IntN(4)]
	s.Nodes, s.Limits, s.StartTime, s.EndTime = nil, nil, nil, nil
	s.Filter = []string{"", "udp", "nonsense and"}[random.IntN(3)]
	s.Drops = random.IntN(4) == 0
	switch random.IntN(5) {
	case 0:
		s.Nodes = &v1alpha1.NodeSelection{Names: []string{"hv2"}}
	case 1:
		s.Limits = &v1alpha1.Limits{Packets: 30}
	case 2:
		s.StartTime = &metav1.Time{Time: now.Add(100 * time.Second)}
	case 3:
		s.EndTime = &metav1.Time{Time: now.Add(100 * time.Second)}
	}
}

// check checks what must be so when nothing has happened for a while.
func (w *world) check() {
	t := w.t
	assert.Len(t, w.sessions(), len(slices.Compact(names(w.sessions()))))
	byUID := map[string]*v1alpha1.PacketCapture{}
	for _, c := range w.captures {
		byUID[string(c.UID)] = c
	}
	taken := map[string]bool{} // by somebody, each once
	for _, s := range w.sessions() {
		if n, ok := parseSessionName(s.Name); ok {
			c := byUID[n.uid]
			require.NotNil(t, c, "%s is of a capture that is gone", s.Name)
			assert.Equal(t, revisionOf(c.Spec), n.revision)
			assert.Nil(t, c.DeletionTimestamp)
		}
		for _, i := range s.Interfaces {
			point, _ := targetOf(i.CaptureTarget)
			assert.False(t, taken[point.String()])
			taken[point.String()] = true
		}
	}
	interfaces, err := w.daemon.Interfaces(t.Context())
	require.NoError(t, err)
	for name, c := range w.captures {
		report, reported := w.reports[name+"."+node]
		p := part{view: view{interfaces: interfaces, node: node, labels: w.labels}, capture: c}
		if c.DeletionTimestamp != nil || !p.selected(c.Spec.Nodes) {
			assert.False(t, reported, name)
			assert.Empty(t, w.captured(c.UID), name)
			continue
		}
		if reported {
			assert.Equal(t, string(c.UID), report.CaptureUID)
			assert.Equal(t, c.Generation, report.Status.ObservedGeneration, name)
		}
		state := report.Status.State
		if state != v1alpha1.Active {
			assert.Empty(t, w.captured(c.UID), "%s is %s", name, state)
		}
		if !reported {
			_, end := c.Window()
			assert.True(t, len(p.targets()) == 0 || !end.IsZero() && w.now.After(end), name)
			continue
		}
		mine := w.captured(c.UID)
		for _, point := range p.targets() {
			switch {
			case state == v1alpha1.Ended, report.Status.Reason == reasonInvalidFilter:
			default:
				assert.True(t, taken[point.String()], "%s of %s, which is %s, is not captured", point, name, state)
			}
			delete(mine, point.String())
		}
		assert.Empty(t, mine, "%s captures what it should not", name)
	}
	for _, r := range w.reports {
		assert.Contains(t, byUID, r.CaptureUID, "a report of a capture that is gone")
	}
}

func names(sessions []api.CaptureSession) (all []string) {
	for _, s := range sessions {
		all = append(all, s.Name)
	}
	slices.Sort(all)
	return all
}
