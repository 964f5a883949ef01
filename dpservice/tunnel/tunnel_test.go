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
		Pattern: []rteflow.Item{rteflow.Eth{Type: rteflow.Is(inner)}, rteflow.IPv6{Src: rteflow.Is(t.Peer), Dst: rteflow.Is(t.Underlay)}},
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

type bench struct {
	*Manager
	t     *testing.T
	nic   *fakeNIC
	graph *fakeGraph
	rules *ruleset.Set
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, nic: &fakeNIC{}, graph: &fakeGraph{marks: map[uint16]graph.Tunnel{}}}
	b.rules = ruleset.New(b.nic)
	b.Manager = New(Config{Graph: b.graph, NIC: b.nic, Rules: b.rules})
	return b
}

func key(iface uint16, peer string, inner uint16) Key {
	return Key{graph.Tunnel{
		Interface: iface, Underlay: netip.AddrFrom16([16]byte{0xfc, 0, 14: 1, 15: byte(iface)}), Peer: netip.MustParseAddr(peer),
	}, inner}
}

// check requires that the NIC holds this many rules, each of a tunnel that the Manager knows, and no others.
func (b *bench) check(rules int) {
	b.t.Helper()
	require.Len(b.t, b.nic.Rules(), rules)
	require.Len(b.t, b.tunnels, rules)
	require.Len(b.t, b.marks, rules)
	for k, t := range b.tunnels {
		require.True(b.t, b.rules.Installed(t.rule))
		require.Equal(b.t, k.Tunnel, b.graph.marks[t.mark])
	}
	require.Empty(b.t, b.nic.Misuse())
}

func TestFlowsShareATunnel(t *testing.T) {
	b := newBench(t)
	var marks []uint16
	all := []Key{key(1, "fc00:2::1", 0x800), key(1, "fc00:2::1", 0x86dd), key(1, "fc00:3::1", 0x800), key(2, "fc00:2::1", 0x800)}
	for range 2 {
		for i, k := range all {
			mark, err := b.Acquire(k)
			require.NoError(t, err)
			require.Equal(t, uint16(i), mark)
			marks = append(marks, mark)
		}
		b.check(len(all))
	}
	b.Release(all[0])
	require.NoError(t, b.Tidy())
	b.check(len(all))
	b.Release(all[0])
	b.check(len(all))
	mark, err := b.Acquire(all[0])
	require.NoError(t, err)
	require.Equal(t, marks[0], mark, "between two flows it stays")
	b.Release(all[0])
	require.NoError(t, b.Tidy())
	b.check(len(all) - 1)
	mark, err = b.Acquire(all[0])
	require.NoError(t, err)
	require.NotContains(t, marks, mark, "a mark that was given up rests")
}

func TestTunnelsOfAnInterface(t *testing.T) {
	b := newBench(t)
	kept, other := key(1, "::", 0x800).Tunnel, key(2, "fc00:2::1", 0x800)
	require.NoError(t, b.Keep(kept, 0x800, 0x86dd))
	require.NoError(t, b.Keep(kept, 0x800, 0x86dd), "once more is no more")
	_, err := b.Acquire(other)
	require.NoError(t, err)
	_, err = b.Acquire(key(1, "fc00:2::1", 0x800))
	require.NoError(t, err)
	b.Release(key(1, "fc00:2::1", 0x800))
	b.check(4)
	require.NoError(t, b.Tidy())
	b.check(3)
	require.NoError(t, b.RemoveInterface(kept.Underlay))
	b.check(1)
}

// Marks run out; those that are given up are used again.
func TestNoMarkIsLeft(t *testing.T) {
	b := newBench(t)
	for mark := range math.MaxUint16 {
		b.marks[uint16(mark)] = struct{}{}
	}
	mark, err := b.Acquire(key(1, "fc00:2::1", 0x800))
	require.NoError(t, err)
	assert.Equal(t, uint16(math.MaxUint16), mark)
	_, err = b.Acquire(key(1, "fc00:3::1", 0x800))
	assert.ErrorIs(t, err, ErrFull)
	assert.ErrorIs(t, b.Keep(key(2, "::", 0x800).Tunnel, 0x800), ErrFull)
	delete(b.marks, 77)
	mark, err = b.Acquire(key(1, "fc00:3::1", 0x800))
	require.NoError(t, err)
	assert.Equal(t, uint16(77), mark)
}

func TestWithoutAnInterfaceThereIsNoRule(t *testing.T) {
	b := newBench(t)
	b.graph.err = graph.ErrNotFound
	_, err := b.Acquire(key(1, "fc00:2::1", 0x800))
	assert.ErrorIs(t, err, graph.ErrNotFound)
	assert.Error(t, b.Keep(key(1, "::", 0x800).Tunnel, 0x800, 0x86dd))
	assert.Empty(t, b.nic.Calls())
	b.check(0)
}

// Whichever calls the NIC refuses, also of an undo, the Manager knows what stands, and gets rid of it.
func TestEveryCallFails(t *testing.T) {
	anyone := key(1, "::", 0x800).Tunnel
	operations := map[string]func(b *bench) error{
		"acquire": func(b *bench) error { _, err := b.Acquire(key(1, "fc00:4::1", 0x800)); return err },
		"keep":    func(b *bench) error { return b.Keep(anyone, 0x800, 0x86dd) },
		"tidy":    func(b *bench) error { return b.Tidy() },
		"remove":  func(b *bench) error { return b.RemoveInterface(anyone.Underlay) },
	}
	for name, do := range operations {
		t.Run(name, func(t *testing.T) {
			for first := 1; first <= 4; first++ {
				for last := first; last <= 8; last++ {
					b := newBench(t)
					for i := range 3 {
						k := key(1, fmt.Sprintf("fc00:2::%d", i), 0x800)
						_, err := b.Acquire(k)
						require.NoError(t, err)
						b.Release(k)
					}
					before := len(b.nic.Calls())
					b.nic.OnCall(func(c flowtest.Call) error {
						if n := c.N - before; n >= first && n <= last {
							return flowtest.Refusal(c, syscall.EBUSY, "out of luck")
						}
						return nil
					})
					err := do(b)
					require.Equal(t, first <= len(b.nic.Calls())-before, err != nil)
					b.nic.OnCall(nil)
					b.check(len(b.nic.Rules()))
					require.NoError(t, do(b), "the next time it works")
					require.NoError(t, b.RemoveInterface(anyone.Underlay))
					b.check(0)
				}
			}
		})
	}
}
