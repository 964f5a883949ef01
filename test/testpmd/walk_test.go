// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/report"
	"dpservice/test/topology"
)

func TestMain(m *testing.M) { os.Exit(topology.Main(m)) }

// counts are what was tried.
type counts struct{ items, actions, refusals, packets int }

// walk is a testpmd that is led through everything that the NIC has and refuses. Its parts leave no rules behind.
type walk struct {
	*client
	counts counts
}

func TestEveryItemActionAndRefusal(t *testing.T) {
	w := &walk{client: newClient(t)}
	t.Run("items", w.items)
	t.Run("actions", w.actions)
	t.Run("to the application", w.toTheApplication)
	t.Run("shared actions", w.sharedActions)
	t.Run("ports", w.ports)
	t.Run("refusals", w.refusals)
	report.Printf(t, "testpmd: %d items and %d actions with %d packets, %d refusals tried",
		w.counts.items, w.counts.actions, w.counts.packets, w.counts.refusals)
}

var created = regexp.MustCompile(`^Flow rule #(\d+) created\r?\n$`)

// create creates a rule of the form "PORT ATTRIBUTES pattern ... / end actions ... / end" and returns its number.
func (w *walk) create(t *testing.T, port int, rule string) string {
	t.Helper()
	require.Equal(t, "Flow rule validated\n", w.Ask(t, fmt.Sprintf("flow validate %d %s", port, rule)), rule)
	answer := w.Ask(t, fmt.Sprintf("flow create %d %s", port, rule))
	found := created.FindStringSubmatch(answer)
	require.NotNil(t, found, "%s: %s", rule, answer)
	return found[1]
}

// dump is the NIC's words about a rule.
func (w *walk) dump(t *testing.T, port int, number string) string {
	t.Helper()
	answer := w.Ask(t, fmt.Sprintf("flow dump %d rule %s", port, number))
	rule, ok := strings.CutSuffix(answer, "\nFlow dump finished\n")
	require.True(t, ok, answer)
	return rule
}

func (w *walk) destroy(t *testing.T, port int, number string) {
	t.Helper()
	require.Equal(t, fmt.Sprintf("Flow rule #%s destroyed\n", number),
		w.Ask(t, fmt.Sprintf("flow destroy %d rule %s", port, number)))
}

// flush takes all rules of the ports away.
func (w *walk) flush(t *testing.T, ports ...int) {
	t.Helper()
	for _, port := range ports {
		w.tell(t, fmt.Sprintf("flow flush %d", port))
	}
}

// items lets a packet that has what an item asks for, and one that does not, arrive at a rule with that item: the one
// leaves through VF 1, the other meets a rule behind it and leaves through PF 0.
func (w *walk) items(t *testing.T) {
	w.create(t, vf0, fmt.Sprintf("priority 9 transfer pattern end actions port_id id %d / end", pf0))
	w.create(t, pf0, fmt.Sprintf("priority 9 transfer pattern end actions port_id id %d / end", pf0))
	for _, it := range items {
		t.Run(it.pattern, func(t *testing.T) { w.item(t, it) })
	}
	w.flush(t, vf0, pf0)
}

func (w *walk) item(t *testing.T, it item) {
	w.counts.items++
	rule := w.create(t, vf0, fmt.Sprintf("transfer pattern %s / end actions count / port_id id %d / end", it.pattern, vf1))
	defer w.destroy(t, vf0, rule)
	from := "vf0"
	if it.pattern == anyPort {
		from = "any"
	}
	want := strings.TrimSuffix(fmt.Sprintf("on vf0 from %s transfer group 0 priority 0 pattern %s", from, it.dump),
		" ") + " actions count port=vf1 # 0 packets 0 bytes"
	assert.Equal(t, want, w.dump(t, vf0, rule))
	w.counts.packets++
	w.send(t, "vf0", it.hit)
	assert.Equal(t, [][]byte{it.hit}, w.left(t, "vf1", 1))
	if it.miss != nil {
		w.counts.packets++
		w.send(t, "vf0", it.miss)
		assert.Equal(t, [][]byte{it.miss}, w.left(t, "pf0", 1))
	}
	answer := w.Ask(t, fmt.Sprintf("flow query %d %s count", vf0, rule))
	assert.Equal(t, fmt.Sprintf("COUNT:\n hits_set: 1\n bytes_set: 1\n hits: 1\n bytes: %d\n", len(it.hit)), answer)
}
