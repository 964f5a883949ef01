// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/spec"
	"dpservice/dpservice/access"
	"dpservice/dpservice/audit"
	"dpservice/rpc/api"
	"dpservice/rpc/server"
	"dpservice/rpc/server/servertest"
)

// notes is an Auditor that remembers.
type notes struct {
	mu  sync.Mutex
	all []audit.Request
}

func (n *notes) Request(r audit.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, r)
}

// last returns the last note once there are this many. The answer may be there before the note.
func (n *notes) last(t *testing.T, count int) (r audit.Request) {
	t.Helper()
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.all) > 0 {
			r = n.all[len(n.all)-1]
		}
		return len(n.all) == count
	}, 10*time.Second, time.Millisecond)
	return r
}

func rulesOf(t *testing.T, text string) *access.Policy {
	t.Helper()
	var rules []access.Rule
	require.NoError(t, yaml.Unmarshal([]byte(text), &rules))
	for _, r := range rules {
		require.Empty(t, r.Validate())
	}
	p, unknown := access.New(rules, access.SystemNames())
	require.Empty(t, unknown)
	return p
}

// open lets everybody connect.
func open(t *testing.T, socket string) {
	t.Helper()
	require.NoError(t, os.Chmod(filepath.Dir(socket), 0o755))
	require.NoError(t, os.Chmod(socket, 0o666))
}

// ask sends a request as somebody else, and returns the answer.
func ask(t *testing.T, socket string, w who, method api.AnyMethod, params string) (json.RawMessage, api.ErrorData) {
	t.Helper()
	conn := connectAs(t, socket, w)
	request := `{"jsonrpc":"2.0","id":1,"method":"` + method.Name() + `","params":` + params + "}\n"
	_, err := conn.Write([]byte(request))
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  struct {
			Message string        `json:"message"`
			Data    api.ErrorData `json:"data"`
		} `json:"error"`
	}
	require.NoError(t, json.Unmarshal([]byte(readAll(t, conn)[0]), &answer))
	return answer.Result, answer.Error.Data
}

// Each method of the API has a class that rules can allow, or is its caller's own.
func TestEveryMethodHasAClass(t *testing.T) {
	known := []api.Class{api.ClassOwn, api.ClassRead, api.ClassInterfaces, api.ClassRoutes, api.ClassCaptures}
	names := map[string]bool{}
	for _, m := range api.Methods {
		assert.Contains(t, known, m.Class, m.Name())
		assert.False(t, names[m.Name()], "%s is there twice", m.Name())
		names[m.Name()] = true
	}
	var mine []access.Class
	for _, c := range known {
		mine = append(mine, access.Class(c))
	}
	assert.ElementsMatch(t, mine,
		[]access.Class{access.Own, access.Read, access.Interfaces, access.Routes, access.Captures})
}

// TestClasses calls each method by somebody with a rule for one class only: no method of another class is carried out.
func TestClasses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	cfg := servertest.Config()
	cfg.Access = rulesOf(t, `
- {uids: [5001], allow: [read]}
- {gids: [5002], allow: [interfaces]}
- {groups: [daemon], allow: [routes]}
- {uids: [5004], allow: [captures]}`)
	socket := servertest.StartWith(t, servertest.New().Services(), cfg)
	open(t, socket)
	const daemon = 1 // Debian's gid
	for class, w := range map[api.Class]who{
		api.ClassRead:       {5001, 5000, nil},
		api.ClassInterfaces: {5000, 5000, []uint32{7, 5002}},
		api.ClassRoutes:     {5000, daemon, nil},
		api.ClassCaptures:   {5004, 5000, nil},
		"":                  {5000, 5000, nil},
	} {
		for _, m := range api.Methods {
			_, data := ask(t, socket, w, m, `{"no such field":1}`)
			want := api.ReasonInvalidParams
			if m.Class != class && m.Class != api.ClassOwn {
				want = "PERMISSION_DENIED"
			}
			assert.Equal(t, want, data.Reason, "%s by who may %s", m.Name(), class)
		}
	}
}

// TestCaptureRules starts and stops captures by somebody who may capture VNI 100 to one sink, and changes the rules
// meanwhile.
func TestCaptureRules(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	cfg := servertest.Config()
	noted := &notes{}
	cfg.Audit = noted
	cfg.Access = rulesOf(t, `[{uids: [5001], allow: [captures], captures: {sinks: ["fc00:99::/64"], vnis: [100], max_duration: 1m}}]`)
	path := filepath.Join(servertest.SocketDir(t), "s")
	fake := servertest.New()
	s := server.New(fake.Services(), cfg)
	socket := servertest.Serve(t, s, path)
	open(t, socket)
	for id, vni := range map[string]string{"vm-1": "100", "vm-2": "200"} {
		must[api.Interface](t, socket, api.MethodInterfaceCreate, `{"id":"`+id+`","device":"vf","vni":`+vni+`}`)
	}
	noted.last(t, 2)
	w := who{5001, 5001, nil}
	start := func(sink, target, limits string) (api.ErrorData, string) {
		params := `{"name":"lab","sink_node_ip":"` + sink + `","udp_src_port":1,"udp_dst_port":2,"interfaces":[` + target +
			`],"limits":` + limits + `}`
		_, data := ask(t, socket, w, api.MethodCaptureStart, params)
		return data, data.Reason
	}
	const good, vm1, minute = "fc00:99::1", `{"vf":"vm-1"}`, `{"duration":"1m"}`
	for name, tt := range map[string]struct{ sink, target, limits string }{
		"sink":          {"fc00:98::1", vm1, minute},
		"network":       {good, `{"vf":"vm-2"}`, minute},
		"one of two":    {good, vm1 + `,{"vf":"vm-2"}`, minute},
		"PF":            {good, `{"pf":0}`, minute},
		"no interface":  {good, `{"vf":"vm-9"}`, minute},
		"no limit":      {good, vm1, `{}`},
		"a longer time": {good, vm1, `{"duration":"61s"}`},
	} {
		_, reason := start(tt.sink, tt.target, tt.limits)
		assert.Equal(t, "PERMISSION_DENIED", reason, name)
	}
	denied := noted.last(t, 9)
	assert.True(t, denied.Denied)
	assert.Equal(t, "PERMISSION_DENIED", denied.Result)
	assert.NotEmpty(t, denied.MissingRule)

	_, reason := start(good, vm1, minute)
	assert.Empty(t, reason)
	done := noted.last(t, 10)
	assert.Equal(t, "done", done.Result)
	assert.EqualValues(t, 5001, done.Peer.UID)
	assert.EqualValues(t, os.Getpid(), done.Peer.PID)
	assert.NotEmpty(t, done.Peer.Comm)
	assert.Equal(t, []access.Target{{Interface: "vm-1", VNI: 100}}, done.Captures[0].Targets)
	assert.Contains(t, string(done.Params), good)

	must[api.CaptureSession](t, socket, api.MethodCaptureStart,
		`{"name":"other","sink_node_ip":"fc00:99::1","udp_src_port":1,"udp_dst_port":2,"interfaces":[{"vf":"vm-2"}]}`)
	for _, params := range []string{`{"name":"other"}`, `{}`, `{"name":"unknown"}`} {
		_, data := ask(t, socket, w, api.MethodCaptureStop, params)
		assert.Equal(t, "PERMISSION_DENIED", data.Reason, params)
	}
	_, data := ask(t, socket, w, api.MethodCaptureStop, `{"name":"lab"}`)
	assert.Empty(t, data.Reason)

	must[api.CaptureStopResult](t, socket, api.MethodCaptureStop, `{"name":"other"}`)
	_, reason = start(good, vm1, minute)
	assert.Empty(t, reason)
	fake.WaitingCaptures = []spec.Session{{
		Name: "waits", Sink: netip.MustParseAddr(good), Interfaces: []spec.SessionInterface{{Target: spec.Target{VF: "vm-2"}}},
	}}
	_, data = ask(t, socket, w, api.MethodCaptureStop, `{}`)
	assert.Equal(t, "PERMISSION_DENIED", data.Reason, "one of them waits to be restored, and is another's")
	must[api.CaptureStopResult](t, socket, api.MethodCaptureStop, `{}`)

	// What is missing, added to the rules, is what is missing.
	refused, _ := start("fc00:98::1", `{"pf":0}`, `{}`)
	s.SetAccess(rulesOf(t, refused.MissingRule))
	_, reason = start("fc00:98::1", `{"pf":0}`, `{}`)
	assert.Empty(t, reason)
	_, reason = start(good, vm1, minute)
	assert.Equal(t, "PERMISSION_DENIED", reason)
}

// Who may capture an interface may trace it, unless the rule says where copies go.
func TestTraceRules(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	cfg := servertest.Config()
	cfg.Access = rulesOf(t, `
- {uids: [5001], allow: [captures], captures: {interfaces: ["vm-1"]}}
- {uids: [5002], allow: [captures], captures: {sinks: ["fc00:99::/64"]}}`)
	socket := servertest.StartWith(t, servertest.New().Services(), cfg)
	open(t, socket)
	for params, allowed := range map[string]map[int]bool{
		`{"interface":"vm-1"}`: {5001: true, 5002: false, 5003: false},
		`{"interface":"vm-2"}`: {5001: false, 5002: false, 5003: false},
	} {
		for uid, want := range allowed {
			_, data := ask(t, socket, who{uid, uid, nil}, api.MethodTraceStart, params)
			assert.Equal(t, want, data.Reason == "", "%d %s: %s", uid, params, data.Reason)
			assert.Equal(t, !want, data.Reason == "PERMISSION_DENIED", "%d %s: %s", uid, params, data.Reason)
		}
	}
}

// TestSystemAccess shows to whoever may connect what it may do, and no more.
func TestSystemAccess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be others")
	}
	cfg := servertest.Config()
	cfg.Access = rulesOf(t, `
- {uids: [5001], allow: [read]}
- {gids: [5002], allow: [captures], captures: {sinks: ["fc00:99::/64"], interfaces: ["vm-*"], vnis: [7], max_duration: 90s, max_packets_per_second: 5}}`)
	socket := servertest.StartWith(t, servertest.New().Services(), cfg)
	open(t, socket)
	show := func(w who) (r api.SystemAccessResult) {
		result, _ := ask(t, socket, w, api.MethodSystemAccess, "{}")
		require.NoError(t, json.Unmarshal(result, &r))
		return r
	}
	assert.Equal(t, api.SystemAccessResult{
		UID: 5000, GIDs: []uint32{5000}, Configured: true, Grants: []api.AccessGrant{},
		Methods: []string{"system.access", "trace.read", "trace.stop"},
	}, show(who{5000, 5000, nil}))
	both := show(who{5001, 5001, []uint32{5002, 5001}})
	assert.Equal(t, []uint32{5001, 5002}, both.GIDs)
	assert.Equal(t, []api.AccessGrant{
		{From: "access[0]", Allow: []string{"read"}},
		{From: "access[1]", Allow: []string{"captures"}, Captures: &api.AccessLimits{
			Sinks: []string{"fc00:99::/64"}, Interfaces: []string{"vm-*"}, VNIs: []uint32{7}, MaxDuration: "1m30s",
			MaxPacketsPerSecond: 5,
		}},
	}, both.Grants)
	assert.Contains(t, both.Methods, "capture.start")
	assert.NotContains(t, both.Methods, "route.add")

	root := must[api.SystemAccessResult](t, socket, api.MethodSystemAccess, "")
	assert.Equal(t, "root", root.User)
	assert.Equal(t, "root and the daemon's user", root.Grants[0].From)
	assert.Len(t, root.Methods, len(api.Methods))
}

// What changes is noted, whether it succeeds or not; what reads is not.
func TestWhatIsNoted(t *testing.T) {
	cfg := servertest.Config()
	noted := &notes{}
	cfg.Audit = noted
	socket := servertest.StartWith(t, servertest.New().Services(), cfg)
	for _, m := range api.Methods {
		_, _ = call[json.RawMessage](t, socket, m, `{"no such field":1}`)
	}
	changes := slices.DeleteFunc(slices.Clone(api.Methods), func(m api.ClassifiedMethod) bool {
		return m.Class == api.ClassRead || m.Class == api.ClassOwn
	})
	last := noted.last(t, len(changes))
	assert.Equal(t, api.ReasonInvalidParams, last.Result)
	assert.Contains(t, last.Error, "no such field")
	assert.False(t, last.Denied)
	assert.JSONEq(t, `{"no such field":1}`, string(last.Params))
}
