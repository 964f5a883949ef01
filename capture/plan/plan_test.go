// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/filter"
	"dpservice/capture/spec"
	"dpservice/dpservice/port"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
	"dpservice/wire"
)

// fakeNIC names ports as the current NICs do.
type fakeNIC struct{}

func (fakeNIC) BasePatterns(p port.Port) [][]rteflow.Item {
	return [][]rteflow.Item{{rteflow.RepresentedPort{Port: p.ID}, rteflow.Eth{}}}
}
func (fakeNIC) PortItem(id uint16) rteflow.Item     { return rteflow.RepresentedPort{Port: id} }
func (fakeNIC) AnyPort() rteflow.Item               { return rteflow.AnyPort{} }
func (fakeNIC) PortAction(id uint16) rteflow.Action { return rteflow.ToRepresentedPort{Port: id} }

// The ports are PF0 (port 0), PF1, which is not in the E-Switch, and a VF on port 2.
var (
	testDomain = uint16(7)
	testPorts  = []port.Port{
		{Name: "pf0", Role: port.PF, SwitchDomain: &testDomain}, {ID: 1, Name: "pf1", Role: port.PF, Index: 1},
		{ID: 2, Name: "vf0", Role: port.VF, SwitchDomain: &testDomain},
	}
	testNode = Node{NIC: fakeNIC{}, Uplink: testPorts[0]}
)

// points are those of a capture of one port in both directions.
func points(t *testing.T, n Node, id int, text string) (all []Point) {
	t.Helper()
	program, err := filter.Compile(text, filter.Ethernet, spec.MaxRules)
	require.NoError(t, err)
	for _, side := range []graph.TapSide{graph.TapRX, graph.TapTX} {
		all = append(all, n.Points(Mirror{Interface: "vm", Port: testPorts[id], Side: side, Filter: program.Rules})...)
	}
	return all
}

var copies = Copies{Session: "s", Header: wire.CopyHeader{UDPSrcPort: 1, UDPDstPort: 2}}

// describe is a line for each step and, of rules, for each operation.
func describe(steps []Step) (lines []string) {
	for _, step := range steps {
		switch step := step.(type) {
		case Rules:
			for _, op := range step {
				lines = append(lines, op.String())
			}
		case Tap:
			lines = append(lines, fmt.Sprintf("tap %t -> %t", step.Old != nil, step.New != nil))
		default:
			lines = append(lines, fmt.Sprintf("%T %v", step, step))
		}
	}
	return lines
}

func TestTheStepsOfACapture(t *testing.T) {
	first := Next(copies, points(t, testNode, 2, ""))
	assert.Equal(t, []string{
		"tap false -> true",
		`add rule "capture/s/rule/15/0" to port 2`,
		`add rule "capture/s/delivery/2/rule/15/0" to port 0`,
		`add rule "capture/s/redirect/0" to port 2`,
		`add rule "capture/s/delivery/2/redirect/0" to port 0`,
	}, describe(Start(first)), "what leads packets to rules comes after these")

	second := Next(copies, first)
	assert.Equal(t, []string{
		"tap true -> true",
		`add rule "capture/s/rule/14/0" to port 2`,
		`add rule "capture/s/delivery/2/rule/14/0" to port 0`,
		"plan.ReadCounters {}",
		`remove rule "capture/s/delivery/2/rule/15/0" from port 0`,
		`remove rule "capture/s/rule/15/0" from port 2`,
	}, describe(Replace(first, second)))
	assert.Equal(t, first[0].Redirects, second[0].Redirects, "the redirects stay")

	owned := []*ruleset.Rule{second[0].Rules[0], second[0].Redirects[0], second[1].Rules[0]}
	assert.Equal(t, []string{
		`remove rule "capture/s/redirect/0" from port 2`,
		"plan.ReadCounters {}",
		`remove rule "capture/s/delivery/2/rule/14/0" from port 0`,
		`remove rule "capture/s/rule/14/0" from port 2`,
		"tap true -> false",
	}, describe(Stop(second, owned)), "only what is installed is removed")
	assert.Equal(t, []string{"tap true -> false"}, describe(Stop(second, nil)))
}

// A step that is undone twice is itself, and the undo of rules is in the reverse order.
func TestUndo(t *testing.T) {
	first := Next(copies, points(t, testNode, 2, "udp"))
	for _, step := range append(Start(first), Replace(first, Next(copies, first))...) {
		if step.Undo() == nil {
			assert.Equal(t, ReadCounters{}, step)
			continue
		}
		assert.Equal(t, step, step.Undo().Undo())
	}
	rules := Rules(append(ruleset.Add(first[0].Rules[0]), ruleset.Remove(first[1].Rules[0])...))
	assert.Equal(t, Rules(append(ruleset.Add(first[1].Rules[0]), ruleset.Remove(first[0].Rules[0])...)), rules.Undo())
}

// Each band precedes the one before until they begin again. No capture has the band of a probe.
func TestBands(t *testing.T) {
	at := points(t, testNode, 2, "")
	var last uint32
	for i := range 3 * bands {
		at = Next(copies, at)
		priority := at[0].Rules[0].Spec.Priority
		if i%bands > 0 {
			assert.Less(t, priority, last)
		}
		assert.Less(t, priority, uint32(bands*spec.MaxRules))
		last = priority
	}
	assert.EqualValues(t, bands*spec.MaxRules, Probe(copies, at)[0].Rules[0].Spec.Priority)
}

// Where the NIC forwards nothing past the graph, there are taps only; planning changes nothing that it is given.
func TestPointsInSoftware(t *testing.T) {
	for name, at := range map[string][]Point{
		"outside of the E-Switch": points(t, testNode, 1, "udp"),
		"without offload":         points(t, Node{Uplink: testNode.Uplink}, 2, "udp"),
	} {
		require.Len(t, at, 2, name)
		filled := Next(copies, at)
		for i, p := range filled {
			assert.Nil(t, at[i].Tap)
			require.NotNil(t, p.Tap)
			assert.Len(t, p.Tap.Rules, len(p.Filter))
			assert.Empty(t, p.Rules)
		}
		assert.NotEqual(t, filled[0].Tap.Header, filled[1].Tap.Header, "by the label")
	}
}
