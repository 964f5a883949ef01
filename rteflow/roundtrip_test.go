// SPDX-License-Identifier: Apache-2.0

package rteflow_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "dpservice/rteflow"
	"dpservice/test/plugin"
	"dpservice/test/report"
	"dpservice/wire"
)

const (
	roundTrips = 600
	// testpmdLine is what testpmd reads of a line at most.
	testpmdLine = 511
)

// replayer writes what happens to the NIC of this process, so that testpmd can do the same to its own.
type replayer struct {
	t        *testing.T
	commands []string
	checks   map[int]string // by command: what testpmd has to answer
	seen     map[string]int // by type of an item or action: how many were seen
}

// command adds a command, which has to be answered like this.
func (r *replayer) command(command, answer string) {
	r.commands = append(r.commands, command)
	r.checks[len(r.commands)-1] = answer
}

// create creates the rule and returns whether the driver took it.
func (r *replayer) create(port uint16, rule Rule) bool {
	commands := rule.Commands(port)
	for _, c := range commands {
		if len(c) > testpmdLine {
			return false // nothing to compare with
		}
	}
	_, err := Create(port, rule)
	r.commands = append(r.commands, commands[:len(commands)-1]...)
	r.command(commands[len(commands)-1], verdict(err, `Flow rule #\d+ created`))
	if err == nil {
		for _, it := range rule.Pattern {
			r.seen[fmt.Sprintf("%T", it)]++
		}
		for _, a := range rule.Actions {
			r.seen[fmt.Sprintf("%T", a)]++
		}
	}
	return err == nil
}

// verdict is what testpmd answers to a call with this outcome, as a pattern.
func verdict(err error, success string) string {
	var rerr *Error
	if !errors.As(err, &rerr) {
		return success
	}
	message := rerr.Message
	if message == "" {
		message = "(no stated reason)"
	}
	return fmt.Sprintf(`(?is)caught pmd error type %d .*%s: %s`, rerr.Type, regexp.QuoteMeta(message),
		regexp.QuoteMeta(rerr.Errno.Error()))
}

// replay lets testpmd run the commands and checks its answers.
func (r *replayer) replay() {
	path, remove, err := plugin.Install()
	require.NoError(r.t, err)
	defer func() { assert.NoError(r.t, remove()) }()
	// Line by line, or else its answers come later than its complaints.
	cmd := exec.CommandContext(r.t.Context(), "stdbuf", append(append([]string{
		"-oL", "dpdk-testpmd", "--no-huge", "-m", "256", "--no-pci", "--file-prefix",
		fmt.Sprintf("rteflow-trip-%d", os.Getpid()), "-l", "0,1", "-d", path,
	}, vdevs...), "--", "-i", "--total-num-mbufs=4096")...)
	cmd.Stdin = strings.NewReader(strings.Join(r.commands, "\n") + "\nquit\n")
	out, err := cmd.CombinedOutput()
	require.NoError(r.t, err, string(out))
	answers := strings.Split(string(out), "testpmd> ")
	require.Len(r.t, answers, len(r.commands)+2, "a greeting before, the answer to quit behind: %s", out)
	for i, want := range r.checks {
		assert.Regexp(r.t, want, answers[i+1], r.commands[i])
	}
}

// Rules that are created here, and rules that testpmd makes of their text, are the same to the NIC: what it says of
// them, and what it says when it refuses them.
func TestRoundTripThroughTestpmd(t *testing.T) {
	p := needNIC(t)
	r := &replayer{t: t, checks: map[int]string{}, seen: map[string]int{}}
	g := generator{Rand: rand.New(rand.NewPCG(5, 6)), p: p, shared: shareActions(r, p.vf0)}
	created, refused := 0, 0
	for created+refused < roundTrips {
		if r.create(g.rule()) {
			created++
		} else {
			refused++
		}
	}
	dumps := map[uint16]string{}
	dir := t.TempDir()
	for _, port := range []uint16{p.pf0, p.vf0, p.vf7} {
		var err error
		dumps[port], err = DevDump(port)
		require.NoError(t, err)
		r.command(fmt.Sprintf("flow dump %d all %s", port, dumpFile(dir, port)), "")
	}
	r.replay()
	rules := 0
	for port, want := range dumps {
		got, err := os.ReadFile(dumpFile(dir, port))
		require.NoError(t, err)
		assert.Equal(t, comparable(want), comparable(string(got)), "port %d", port)
		rules += len(comparable(want))
	}
	for _, kind := range kinds {
		assert.NotZero(t, r.seen[fmt.Sprintf("%T", kind)], "%T was in no rule", kind)
	}
	report.Printf(t,
		"round trip through testpmd: %d rules created and %d refused alike, of %d kinds of items and actions; "+
			"%d lines of the NIC's dump are the same", created, refused, len(kinds), rules)
	assert.Greater(t, created, roundTrips/6)
	assert.Greater(t, refused, roundTrips/20)
	assert.GreaterOrEqual(t, rules, created)
}

// kinds are all items and actions.
var kinds = []any{
	Eth{}, VLAN{}, IPv4{}, IPv6{}, TCP{}, UDP{}, ICMP{}, ICMP6{}, VXLAN{}, Mark{}, Tag{}, Meta{}, RepresentedPort{},
	PortID{}, AnyPort{}, AnyPortID{},
	Jump{}, Sample{}, RawEncap{}, RawDecap{}, SetMACSrc{}, SetMACDst{}, SetIPv4Src{}, SetIPv4Dst{}, SetIPv6Src{},
	SetIPv6Dst{},
	SetTPSrc{}, SetTPDst{}, PopVLAN{}, PushVLAN{}, SetMark{}, SetTag{}, SetMeta{}, DecTTL{}, Age{}, Count{}, Indirect{},
	Drop{},
	Queue{}, ToRepresentedPort{}, ToPortID{},
}

// A new item or action is among the kinds, so that the round trip tries it.
func TestKindsAreAll(t *testing.T) {
	source, err := os.ReadFile("rule.go")
	require.NoError(t, err)
	var declared, listed []string
	method := regexp.MustCompile(`(?m)^func \((\w+)\) (?:item|action)\(\)`)
	for _, m := range method.FindAllStringSubmatch(string(source), -1) {
		declared = append(declared, "rteflow."+m[1])
	}
	for _, kind := range kinds {
		listed = append(listed, fmt.Sprintf("%T", kind))
	}
	assert.ElementsMatch(t, declared, listed)
}

func dumpFile(dir string, port uint16) string { return filepath.Join(dir, fmt.Sprintf("port%d", port)) }

var handle = regexp.MustCompile(`^(flow |rule )?0x[0-9a-f]+`)

// comparable is a dump's lines without the rules' addresses in memory, with which they may begin.
func comparable(dump string) []string {
	lines := strings.Split(strings.TrimSpace(dump), "\n")
	for i, line := range lines {
		lines[i] = handle.ReplaceAllString(line, "$1")
	}
	return lines
}

// shareActions makes indirect actions on the port, here and at testpmd. Those that the NIC refuses are not returned.
func shareActions(r *replayer, port uint16) []Action {
	var shared []Action
	for id, a := range []Action{Count{}, Age{Timeout: 3600}} {
		attr := Attr{Transfer: true}
		h, err := CreateIndirect(port, attr, a)
		r.command(IndirectCommand(port, uint32(id), attr, a), verdict(err, fmt.Sprintf("Indirect action #%d created", id)))
		if err == nil {
			shared = append(shared, Indirect{uint32(id), h})
			r.t.Cleanup(func() { assert.NoError(r.t, errors.Join(Flush(port), DestroyIndirect(port, h))) })
		}
	}
	return shared
}

// generator makes rules of a form that NICs are made for, some of which they have to refuse.
type generator struct {
	*rand.Rand
	p      ports
	shared []Action // on VF 0
}

func (g generator) rule() (port uint16, r Rule) {
	port = g.port()
	r.Group, r.Priority = g.Uint32N(3), g.Uint32N(4)
	if g.IntN(5) == 0 {
		r.Ingress = true
	} else {
		r.Transfer = true
	}
	r.Pattern = g.pattern()
	r.Actions = g.actions(r.Transfer)
	if slices.ContainsFunc(r.Pattern, func(it Item) bool { _, ok := it.(VLAN); return ok }) && g.IntN(3) == 0 {
		r.Actions = append([]Action{PopVLAN{}}, r.Actions...)
	}
	if port == g.p.vf0 && r.Transfer && len(g.shared) > 0 && g.IntN(4) == 0 {
		r.Actions = append([]Action{g.shared[g.IntN(len(g.shared))]}, r.Actions...)
	}
	return port, r
}

func (g generator) port() uint16 { return []uint16{g.p.pf0, g.p.vf0, g.p.vf7}[g.IntN(3)] }

func (g generator) pattern() []Item {
	var items []Item
	switch g.IntN(32) {
	case 0, 1, 2, 3, 4:
		items = append(items, RepresentedPort{g.port()})
	case 5, 6, 7, 8, 9:
		items = append(items, PortID{g.port()})
	case 10:
		items = append(items, Mark{Masked(g.Uint32(), g.Uint32N(1<<24))}) // a mark has no more bits
	case 11:
		items = append(items, Tag{Masked(g.Uint32(), g.Uint32()), uint8(g.IntN(3))})
	case 12:
		items = append(items, Meta{Masked(g.Uint32(), g.Uint32N(1<<16))}) // as metadata has 16 there
	case 13:
		items = append(items, AnyPort{})
	case 14:
		items = append(items, AnyPortID{})
	}
	items = append(items, g.link()...)
	switch g.IntN(8) {
	case 0:
		return items
	case 1: // a tunnel of IP in IP, of which net_mlx5 takes no more
		return append(items, IPv6{Dst: some(g, g.v6),
			Proto: []*Match[uint8]{Masked[uint8](0, 0xfb), Is[uint8](41)}[g.IntN(2)]})
	case 2:
		items = append(items, g.ip(17, 17), UDP{}, VXLAN{some(g, func() uint32 { return g.Uint32N(1 << 24) })})
		return append(append(items, g.link()...), g.network()...)
	default:
		return append(items, g.network()...)
	}
}

func (g generator) link() []Item {
	eth := Eth{Src: some(g, g.mac), Dst: some(g, g.mac)}
	if g.IntN(6) == 0 {
		return []Item{eth, VLAN{TCI: some(g, g.u16)}}
	}
	if g.IntN(4) == 0 {
		eth.HasVLAN = Is(uint8(g.IntN(2)))
	}
	return []Item{eth}
}

// ip is a header with either of the protocols behind. Few say so wrongly.
func (g generator) ip(v4, v6 uint8) Item {
	var fragment *Match[uint16]
	if g.IntN(4) == 0 {
		fragment = Masked[uint16](0, 0x3fff)
	}
	if v4 != 0 && (v6 == 0 || g.IntN(2) == 0) {
		return IPv4{
			Src: some(g, g.v4), Dst: some(g, g.v4), TOS: some(g, g.u8), TTL: some(g, g.u8), Proto: g.proto(v4),
			FragmentOffset: fragment,
		}
	}
	return IPv6{Src: some(g, g.v6), Dst: some(g, g.v6), Proto: g.proto(v6), HopLimit: some(g, g.u8)}
}

func (g generator) proto(behind uint8) *Match[uint8] {
	switch g.IntN(30) {
	case 0:
		return some(g, g.u8)
	case 1, 2, 3, 4, 5, 6, 7, 8:
		return Is(behind)
	default:
		return nil
	}
}

// network is an IP header and what it carries.
func (g generator) network() []Item {
	switch g.IntN(5) {
	case 0:
		return []Item{g.ip(6, 6), TCP{some(g, g.u16), some(g, g.u16), some(g, g.u8)}}
	case 1:
		return []Item{g.ip(17, 17), UDP{some(g, g.u16), some(g, g.u16)}}
	case 2:
		return []Item{g.ip(1, 0), ICMP{some(g, g.u8), some(g, g.u8), some(g, g.u16)}}
	case 3:
		return []Item{g.ip(0, 58), ICMP6{some(g, g.u8), some(g, g.u8)}}
	default:
		return []Item{g.ip(g.u8(), g.u8())}
	}
}

// some is mostly no condition; of the others a few are ranges, which cards do not know.
func some[T any](g generator, value func() T) *Match[T] {
	switch n := g.IntN(200); {
	case n < 130:
		return nil
	case n < 160:
		return Is(value())
	case n < 199:
		return Masked(value(), value())
	default:
		last := value()
		return &Match[T]{Spec: value(), Last: &last}
	}
}

// actions are up to four in no particular order, and where the packet goes.
func (g generator) actions(transfer bool) []Action {
	choices := []Action{
		Count{}, Age{Timeout: 3600 + g.Uint32N(3600), Context: g.Uint64()}, DecTTL{}, SetMACSrc{g.mac()}, SetMACDst{g.mac()},
		SetIPv4Src{g.v4()}, SetIPv4Dst{g.v4()}, SetIPv6Src{g.v6()}, SetIPv6Dst{g.v6()}, SetTPSrc{g.u16()}, SetTPDst{g.u16()},
		PopVLAN{}, PushVLAN{0x8100}, SetMark{g.Uint32N(1 << 24)}, SetTag{g.Uint32(), g.Uint32(), uint8(g.IntN(3))},
		SetMeta{g.Uint32N(1 << 16), g.Uint32N(1 << 16)},
		Sample{1, []Action{RawEncap{g.tunnel()}, ToRepresentedPort{g.p.pf0}}},
		Sample{1 + g.Uint32N(2), []Action{ToPortID{g.port()}}},
	}
	var actions []Action
	for _, i := range g.Perm(len(choices))[:g.IntN(4)] {
		actions = append(actions, choices[i])
	}
	switch g.IntN(6) {
	case 0:
		actions = append(actions, RawDecap{g.tunnel()[:54]}, RawEncap{g.tunnel()[:14]})
	case 1:
		actions = append(actions, RawDecap{g.tunnel()[:14]}, RawEncap{g.tunnel()[:54]})
	}
	if transfer {
		return append(actions, []Action{Jump{1 + g.Uint32N(4)}, ToRepresentedPort{g.port()}, ToPortID{g.port()},
			Drop{}}[g.IntN(4)])
	}
	return append(actions, []Action{Queue{}, Drop{}}[g.IntN(2)])
}

// tunnel is the headers Ethernet, IPv6 and UDP.
func (g generator) tunnel() []byte {
	h := header()
	for _, part := range [][]byte{h[:12], h[22:58]} {
		for i := range part {
			part[i] = g.u8()
		}
	}
	return h
}

func (g generator) u8() uint8      { return uint8(g.Uint32()) }
func (g generator) u16() uint16    { return uint16(g.Uint32()) }
func (g generator) v4() netip.Addr { return netip.AddrFrom4([4]byte(g.bytes()[:4])) }
func (g generator) v6() netip.Addr { return netip.AddrFrom16([16]byte(g.bytes())) }
func (g generator) mac() wire.MAC  { return wire.MAC(g.bytes()[:6]) }

func (g generator) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, g.Uint64()), g.Uint64())
}
