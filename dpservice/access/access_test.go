// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// names has users u<uid> and groups g<gid>.
var names = Names{UID: numbered("u%d"), GID: numbered("g%d")}

func numbered(format string) func(string) (uint32, error) {
	return func(name string) (n uint32, err error) {
		if _, err := fmt.Sscanf(name, format, &n); err != nil {
			return 0, fmt.Errorf("%q does not exist", name)
		}
		return n, nil
	}
}

// parsed returns the rules of a YAML list.
func parsed(t *testing.T, text string) []Rule {
	t.Helper()
	var rules []Rule
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(text), &rules, yaml.Strict()), text)
	return rules
}

func policy(t *testing.T, text string) *Policy {
	t.Helper()
	rules := parsed(t, text)
	for _, r := range rules {
		require.Empty(t, r.Validate(), text)
	}
	p, unknown := New(rules, names)
	require.Empty(t, unknown)
	return p
}

var (
	sink  = netip.MustParseAddr("fc00:99::1")
	alice = Peer{UID: 1000, User: "u1000", Groups: []uint32{1000, 50}}
)

func start(change func(*Capture)) Request {
	c := Capture{
		Name: "default", Sink: sink, Targets: []Target{{Interface: "vm-1", VNI: 100}}, Duration: time.Minute,
		PacketsPerSecond: 1000,
	}
	change(&c)
	return Request{Method: "capture.start", Class: Captures, Captures: []Capture{c}, Starts: true}
}

func same(*Capture) {}

func TestDecisions(t *testing.T) {
	onPF := func(c *Capture) { c.Targets = []Target{{PF: 0}} }
	read := Request{Method: "port.list", Class: Read}
	create := Request{Method: "interface.create", Class: Interfaces}
	stop := func(r Request) Request { r.Method, r.Starts = "capture.stop", false; return r }
	limited := func(limits string) string {
		return "[{users: [u1000], allow: [captures], captures: {" + limits + "}}]"
	}
	for name, tt := range map[string]struct {
		rules   string // YAML; empty: none are configured
		peer    Peer
		request Request
		want    string // what the denial says; empty: it is allowed
	}{
		"unconfigured, owner":         {"", Peer{Owner: true}, create, ""},
		"unconfigured, member":        {"", Peer{UID: 5, Member: true}, create, ""},
		"unconfigured, other reads":   {"", Peer{UID: 5}, read, ""},
		"unconfigured, other changes": {"", Peer{UID: 5}, create, "interface.create is for root, the daemon's user and the members of the socket's group"},
		"owner needs no rule":         {"[]", Peer{Owner: true}, create, ""},
		"a member needs a rule":       {"[]", Peer{UID: 5, Member: true}, read, "port.list is not allowed to uid 5: no rule of access allows read"},
		"one's own needs no rule":     {"[]", alice, Request{Method: "system.access", Class: Own}, ""},
		"by user":                     {"[{users: [u1000], allow: [read]}]", alice, read, ""},
		"by uid":                      {"[{uids: [1000], allow: [read]}]", alice, read, ""},
		"by group":                    {"[{groups: [g50], allow: [read]}]", alice, read, ""},
		"by gid":                      {"[{gids: [50], allow: [read]}]", alice, read, ""},
		"a uid is no gid":             {"[{gids: [1001], uids: [50], allow: [read]}]", alice, read, "no rule of access allows read"},
		"another class":               {"[{uids: [1000], allow: [read, routes]}]", alice, create, "user u1000 (uid 1000): no rule of access allows interfaces"},
		"second rule":                 {"[{uids: [1], allow: [read]}, {uids: [1000], allow: [read]}]", alice, read, ""},
		"unlimited captures":          {"[{uids: [1000], allow: [captures]}]", alice, start(onPF), ""},
		"sink":                        {limited(`sinks: ["fc00:99::/64"]`), alice, start(same), ""},
		"another sink":                {limited(`sinks: ["fc00:98::/64"]`), alice, start(same), "access[0] allows sinks in fc00:98::/64 only"},
		"interface":                   {limited(`interfaces: ["vm-*"]`), alice, start(same), ""},
		"another interface":           {limited(`interfaces: ["db-*"]`), alice, start(same), "allows interfaces db-* only, not vm-1"},
		"vni":                         {limited(`vnis: [100]`), alice, start(same), ""},
		"another vni":                 {limited(`vnis: [200]`), alice, start(same), "allows VNIs 200 only, and vm-1 is in none of them"},
		"a PF sees all VNIs":          {limited(`vnis: [100]`), alice, start(onPF), "not of pf0, which sees all"},
		"a PF is no interface":        {limited(`interfaces: ["*"]`), alice, start(onPF), "not of pf0, which sees all"},
		"short":                       {limited(`max_duration: 1m`), alice, start(same), ""},
		"long":                        {limited(`max_duration: 59s`), alice, start(same), "wants a limit of the duration, 59s at most"},
		"endless":                     {limited(`max_duration: 1m`), alice, start(func(c *Capture) { c.Duration = 0 }), "wants a limit of the duration"},
		"slow":                        {limited(`max_packets_per_second: 1000`), alice, start(same), ""},
		"fast":                        {limited(`max_packets_per_second: 999`), alice, start(same), "wants a limit of the packets per second, 999 at most"},
		"stop what may be started":    {limited(`vnis: [100], max_duration: 1s`), alice, stop(start(same)), ""},
		"stop another's":              {limited(`vnis: [200]`), alice, stop(start(same)), "capture.stop of default is not allowed"},
		"stop what is not known":      {limited(`vnis: [100]`), alice, stop(start(func(c *Capture) { *c = Capture{Name: "x"} })), "this one's are not known"},
		"rules do not add up":         {"[{uids: [1000], allow: [captures], captures: {vnis: [100], interfaces: [db]}}, {uids: [1000], allow: [captures], captures: {vnis: [200], interfaces: [vm-1]}}]", alice, start(same), "access[0] allows interfaces db only, not vm-1; access[1] allows VNIs 200 only"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := New(nil, names)
			if tt.rules != "" {
				p = policy(t, tt.rules)
			}
			err := p.Decide(tt.peer, tt.request)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			var denied *Denied
			require.ErrorAs(t, err, &denied)
			assert.Contains(t, denied.Reason, tt.want)
			assert.Equal(t, tt.rules == "", denied.Missing == "", denied.Missing)
		})
	}
}

func TestInvalidRules(t *testing.T) {
	for text, want := range map[string]string{
		"{allow: [read]}":                                                   "names nobody",
		"{uids: [1]}":                                                       "allows nothing",
		"{uids: [1], allow: [write]}":                                       `"write" is none of read, interfaces, routes, captures`,
		"{uids: [1], allow: [own]}":                                         `"own" is none of`,
		"{users: [''], allow: [read]}":                                      "users has an empty name",
		"{groups: [''], allow: [read]}":                                     "groups has an empty name",
		"{uids: [1], allow: [read], captures: {vnis: [1]}}":                 "limits captures, but does not allow them",
		"{uids: [1], allow: [captures], captures: {sinks: []}}":             "captures.sinks is empty",
		"{uids: [1], allow: [captures], captures: {vnis: []}}":              "captures.vnis is empty",
		"{uids: [1], allow: [captures], captures: {vnis: [0]}}":             "0 is no VNI",
		"{uids: [1], allow: [captures], captures: {interfaces: []}}":        "captures.interfaces is empty",
		"{uids: [1], allow: [captures], captures: {interfaces: ['[']}}":     `"[" is not a pattern`,
		"{uids: [1], allow: [captures], captures: {sinks: ['10.0.0.0/8']}}": "is no IPv6 prefix",
		"{uids: [1], allow: [captures], captures: {sinks: ['fc00::1/64']}}": "is no IPv6 prefix",
		"{uids: [1], allow: [captures], captures: {max_duration: -1s}}":     "is negative",
	} {
		problems := parsed(t, "["+text+"]")[0].Validate()
		require.NotEmpty(t, problems, text)
		assert.Contains(t, problems[0], want, text)
	}
}

// A name that does not exist lets nobody in, and the rest of its rule holds.
func TestUnknownNames(t *testing.T) {
	p, unknown := New(parsed(t, "[{users: [nobody-here], uids: [1000], groups: [none], allow: [read]}]"), names)
	require.Len(t, unknown, 2)
	assert.ErrorContains(t, unknown[0], `access[0]: "nobody-here" does not exist`)
	assert.NoError(t, p.Decide(alice, Request{Method: "port.list", Class: Read}))
	assert.Error(t, p.Decide(Peer{UID: 0}, Request{Method: "port.list", Class: Read}), "no name becomes user 0")
}

func TestSystemNames(t *testing.T) {
	uid, err := SystemNames().UID("root")
	require.NoError(t, err)
	assert.Zero(t, uid)
	gid, err := SystemNames().GID("root")
	require.NoError(t, err)
	assert.Zero(t, gid)
	_, err = SystemNames().UID("no-such-user")
	assert.ErrorContains(t, err, "no-such-user")
	assert.Equal(t, "root", UserName(0))
	assert.Empty(t, UserName(4242424))
}

// generator makes rules, peers and requests that often meet.
type generator struct{ *rand.Rand }

func pick[T any](g generator, all ...T) T { return all[g.IntN(len(all))] }

// some returns some of them, and nil often.
func some[T any](g generator, all ...T) []T {
	if g.IntN(2) == 0 {
		return nil
	}
	g.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+g.IntN(len(all))]
}

func (g generator) rule() Rule {
	r := Rule{
		UIDs: some(g, uint32(1), 2), Users: some(g, "u1", "u3"), GIDs: some(g, uint32(7)), Groups: some(g, "g8"),
		Allow: some(g, slices.Clone(classes)...),
	}
	if slices.Contains(r.Allow, Captures) {
		r.Limits = Limits{
			Sinks:      some(g, netip.MustParsePrefix("fc00:99::/64"), netip.MustParsePrefix("fc00:98::5/128")),
			Interfaces: some(g, "vm-*", "db", `a\*b`), VNIs: some(g, uint32(100), 200),
			MaxDuration: pick(g, 0, time.Second, time.Minute), MaxPacketsPerSecond: pick(g, uint64(0), 10, 1000),
		}
	}
	return r
}

func (g generator) peer() Peer {
	return Peer{UID: pick(g, uint32(1), 2, 3), User: pick(g, "", "u"), Groups: some(g, uint32(7), 8, 9), Member: g.IntN(2) == 0}
}

func (g generator) request() Request {
	r := Request{Method: "some.method", Class: pick(g, classes...), Starts: g.IntN(3) > 0}
	for range g.IntN(3) {
		if r.Class != Captures {
			break
		}
		r.Captures = append(r.Captures, Capture{
			Name: "c", Sink: netip.MustParseAddr(pick(g, "fc00:99::1", "fc00:98::5", "fc00:97::1")),
			Targets: some(g, Target{Interface: "vm-1", VNI: 100}, Target{Interface: "db", VNI: 200}, Target{PF: 1},
				Target{Interface: "a*b", VNI: 300}, Target{Interface: "gone"}),
			Duration: pick(g, 0, time.Second, time.Minute, time.Hour), PacketsPerSecond: pick(g, uint64(0), 10, 1000, 5000),
		})
	}
	return r
}

// says reports whether a rule says, word by word, that a peer may do something to one capture, or to none.
func says(r Rule, p Peer, class Class, c *Capture, starts bool) bool {
	meant := false
	for _, u := range r.Users {
		meant = meant || u == fmt.Sprintf("u%d", p.UID)
	}
	for _, g := range p.Groups {
		meant = meant || slices.Contains(r.GIDs, g) || slices.Contains(r.Groups, fmt.Sprintf("g%d", g))
	}
	if meant = meant || slices.Contains(r.UIDs, p.UID); !meant || !slices.Contains(r.Allow, class) {
		return false
	}
	if c == nil {
		return true
	}
	in := r.Limits.Sinks == nil
	for _, prefix := range r.Limits.Sinks {
		in = in || prefix.Contains(c.Sink)
	}
	if !in || len(c.Targets) == 0 && (r.Limits.Interfaces != nil || r.Limits.VNIs != nil) {
		return false
	}
	for _, t := range c.Targets {
		patterns := map[string]string{"vm-1": "vm-*", "db": "db", "a*b": `a\*b`}
		if r.Limits.Interfaces != nil && !slices.Contains(r.Limits.Interfaces, patterns[t.Interface]) ||
			r.Limits.VNIs != nil && !slices.Contains(r.Limits.VNIs, t.VNI) {
			return false
		}
	}
	ends := r.Limits.MaxDuration == 0 || c.Duration != 0 && c.Duration <= r.Limits.MaxDuration
	most := r.Limits.MaxPacketsPerSecond
	slow := most == 0 || c.PacketsPerSecond != 0 && c.PacketsPerSecond <= most
	return !starts || ends && slow
}

// TestRulesAllowWhatTheySay compares decisions on random rules with what the rules say, and adds to the rules what each
// denial says is missing: then the request is allowed.
func TestRulesAllowWhatTheySay(t *testing.T) {
	seed := rand.Uint64()
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	decisions := map[bool]int{}
	for range 5000 {
		rules := []Rule{}
		for range g.IntN(4) {
			rules = append(rules, g.rule())
		}
		peer, request := g.peer(), g.request()
		said := func(c *Capture) bool {
			return slices.ContainsFunc(rules, func(r Rule) bool { return says(r, peer, request.Class, c, request.Starts) })
		}
		want := said(nil)
		for _, c := range request.Captures {
			want = want && said(&c)
		}
		p, unknown := New(rules, names)
		require.Empty(t, unknown)
		err := p.Decide(peer, request)
		require.Equal(t, want, err == nil, "seed %d: %+v %+v %+v: %v", seed, rules, peer, request, err)
		decisions[want]++
		if err == nil {
			continue
		}
		var denied *Denied
		require.True(t, errors.As(err, &denied))
		added := parsed(t, denied.Missing)
		require.Empty(t, added[0].Validate(), denied.Missing)
		p, _ = New(append(rules, added...), Names{GID: names.GID, UID: func(name string) (uint32, error) {
			if name == "u" {
				return peer.UID, nil
			}
			return names.UID(name)
		}})
		require.NoError(t, p.Decide(peer, request), "seed %d: %s", seed, denied.Missing)
	}
	assert.Greater(t, min(decisions[true], decisions[false]), 100, "both are tried")
}
