// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"fmt"
	"math"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/flowtest"
	"dpservice/rteflow/ruleset"
)

// fakeNIC writes rules whose patterns name the peer; fakeGraph knows the marks.
type fakeNIC struct{ flowtest.NIC }

func (*fakeNIC) TunnelRule(_ uint16, t graph.Tunnel, inner uint16) *ruleset.Rule {
	return &ruleset.Rule{Spec: rteflow.Rule{
		Pattern: []rteflow.Item{rteflow.Eth{Type: rteflow.Is(inner)},
			rteflow.IPv6{Src: rteflow.Is(t.Peer), Dst: rteflow.Is(t.Underlay)}},
	}}
}

type fakeGraph struct {
	marks map[uint16]graph.Tunnel
	err   error
}

func (g *fakeGraph) SetTunnel(mark uint16, t graph.Tunnel) error {
	if g.err != nil {
		return g.err
	}
	g.marks[mark] = t
	return nil
}

type lab struct {
	*Manager
	t     *testing.T
	nic   *fakeNIC
	graph *fakeGraph
	rules *ruleset.Set
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, nic: &fakeNIC{}, graph: &fakeGraph{marks: map[uint16]graph.Tunnel{}}}
	l.rules = ruleset.New(l.nic)
	l.Manager = New(Config{Graph: l.graph, NIC: l.nic, Rules: l.rules})
	return l
}

func key(iface uint16, peer string, inner uint16) Key {
	return Key{graph.Tunnel{
		Interface: iface, Underlay: netip.AddrFrom16([16]byte{0xfc, 0, 14: 1, 15: byte(iface)}),
		Peer: netip.MustParseAddr(peer),
	}, inner}
}

// check requires that the NIC holds this many rules, each of a tunnel that the Manager knows, and no others.
func (l *lab) check(rules int) {
	l.t.Helper()
	require.Len(l.t, l.nic.Rules(), rules)
	require.Len(l.t, l.tunnels, rules)
	require.Len(l.t, l.marks, rules)
	for k, t := range l.tunnels {
		require.True(l.t, l.rules.Installed(t.rule))
		require.Equal(l.t, k.Tunnel, l.graph.marks[t.mark])
	}
	require.Empty(l.t, l.nic.Misuse())
}

func TestFlowsShareATunnel(t *testing.T) {
	l := newLab(t)
	var marks []uint16
	all := []Key{key(1, "fc00:2::1", 0x800), key(1, "fc00:2::1", 0x86dd), key(1, "fc00:3::1", 0x800),
		key(2, "fc00:2::1", 0x800)}
	for range 2 {
		for i, k := range all {
			mark, err := l.Acquire(k)
			require.NoError(t, err)
			require.Equal(t, uint16(i), mark)
			marks = append(marks, mark)
		}
		l.check(len(all))
	}
	l.Release(all[0])
	require.NoError(t, l.Tidy())
	l.check(len(all))
	l.Release(all[0])
	l.check(len(all))
	mark, err := l.Acquire(all[0])
	require.NoError(t, err)
	require.Equal(t, marks[0], mark, "between two flows it stays")
	l.Release(all[0])
	require.NoError(t, l.Tidy())
	l.check(len(all) - 1)
	mark, err = l.Acquire(all[0])
	require.NoError(t, err)
	require.NotContains(t, marks, mark, "a mark that was given up rests")
}

func TestTunnelsOfAnInterface(t *testing.T) {
	l := newLab(t)
	kept, other := key(1, "::", 0x800).Tunnel, key(2, "fc00:2::1", 0x800)
	require.NoError(t, l.Keep(kept, 0x800, 0x86dd))
	require.NoError(t, l.Keep(kept, 0x800, 0x86dd), "once more is no more")
	_, err := l.Acquire(other)
	require.NoError(t, err)
	_, err = l.Acquire(key(1, "fc00:2::1", 0x800))
	require.NoError(t, err)
	l.Release(key(1, "fc00:2::1", 0x800))
	l.check(4)
	require.NoError(t, l.Tidy())
	l.check(3)
	require.NoError(t, l.RemoveInterface(kept.Underlay))
	l.check(1)
}

// Marks run out; those that are given up are used again.
func TestNoMarkIsLeft(t *testing.T) {
	l := newLab(t)
	for mark := range math.MaxUint16 {
		l.marks[uint16(mark)] = struct{}{}
	}
	mark, err := l.Acquire(key(1, "fc00:2::1", 0x800))
	require.NoError(t, err)
	assert.Equal(t, uint16(math.MaxUint16), mark)
	_, err = l.Acquire(key(1, "fc00:3::1", 0x800))
	assert.ErrorIs(t, err, ErrFull)
	assert.ErrorIs(t, l.Keep(key(2, "::", 0x800).Tunnel, 0x800), ErrFull)
	delete(l.marks, 77)
	mark, err = l.Acquire(key(1, "fc00:3::1", 0x800))
	require.NoError(t, err)
	assert.Equal(t, uint16(77), mark)
}

func TestWithoutAnInterfaceThereIsNoRule(t *testing.T) {
	l := newLab(t)
	l.graph.err = graph.ErrNotFound
	_, err := l.Acquire(key(1, "fc00:2::1", 0x800))
	assert.ErrorIs(t, err, graph.ErrNotFound)
	assert.Error(t, l.Keep(key(1, "::", 0x800).Tunnel, 0x800, 0x86dd))
	assert.Empty(t, l.nic.Calls())
	l.check(0)
}

// Whichever calls the NIC refuses, also of an undo, the Manager knows which rules are installed, and removes them.
func TestEveryCallFails(t *testing.T) {
	anyone := key(1, "::", 0x800).Tunnel
	operations := map[string]func(l *lab) error{
		"acquire": func(l *lab) error { _, err := l.Acquire(key(1, "fc00:4::1", 0x800)); return err },
		"keep":    func(l *lab) error { return l.Keep(anyone, 0x800, 0x86dd) },
		"tidy":    func(l *lab) error { return l.Tidy() },
		"remove":  func(l *lab) error { return l.RemoveInterface(anyone.Underlay) },
	}
	for name, do := range operations {
		t.Run(name, func(t *testing.T) {
			for first := 1; first <= 4; first++ {
				for last := first; last <= 8; last++ {
					l := newLab(t)
					for i := range 3 {
						k := key(1, fmt.Sprintf("fc00:2::%d", i), 0x800)
						_, err := l.Acquire(k)
						require.NoError(t, err)
						l.Release(k)
					}
					before := len(l.nic.Calls())
					l.nic.OnCall(func(c flowtest.Call) error {
						if n := c.N - before; n >= first && n <= last {
							return flowtest.Refusal(c, syscall.EBUSY, "out of luck")
						}
						return nil
					})
					err := do(l)
					require.Equal(t, first <= len(l.nic.Calls())-before, err != nil)
					l.nic.OnCall(nil)
					l.check(len(l.nic.Rules()))
					require.NoError(t, do(l), "the next time it works")
					require.NoError(t, l.RemoveInterface(anyone.Underlay))
					l.check(0)
				}
			}
		})
	}
}
