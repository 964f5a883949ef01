// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/status"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/rpc/server"
	"dpservice/rpc/server/servertest"
)

// call calls a method with params in JSON; none if they are empty.
func call[R any](t *testing.T, socket string, method api.AnyMethod, params string) (result R, err error) {
	t.Helper()
	var raw any
	if params != "" {
		raw = json.RawMessage(params)
	}
	err = client.CallAny(t.Context(), socket, method, raw, &result)
	return result, err
}

func must[R any](t *testing.T, socket string, method api.AnyMethod, params string) R {
	t.Helper()
	r, err := call[R](t, socket, method, params)
	require.NoError(t, err)
	return r
}

func TestInvalidParams(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	tests := []struct {
		method       api.AnyMethod
		params, want string
	}{
		{api.MethodCaptureStatus, `{"x":1}`, `unknown field "x"`},
		{api.MethodCaptureStatus, `[]`, `want an object with named fields`},
		{api.MethodInterfaceGet, ``, `missing field "id"`},
		{api.MethodInterfaceGet, `{"id":null}`, `missing field "id"`},
		{api.MethodInterfaceGet, `{"ID":"vm-1"}`, `unknown field "ID"`},
		{api.MethodInterfaceGet, `{"id":7}`, `field "id": want a string, got number`},
		{api.MethodInterfaceCreate, `{"id":"a","device":"b"}`, `missing field "vni"`},
		{api.MethodInterfaceCreate, `{"id":"a","device":"b","vni":-1}`,
			`field "vni": want a number from 0 to 4294967295, got number -1`},
		{api.MethodInterfaceCreate, `{"id":"a","device":"b","vni":1.5}`,
			`field "vni": want a number from 0 to 4294967295, got number 1.5`},
		{api.MethodInterfaceCreate, `{"id":"a","device":"b","vni":"1"}`,
			`field "vni": want a number from 0 to 4294967295, got string`},
		{api.MethodInterfaceCreate, `{"id":"a","device":"b","vni":1,"ipv4":"10.0.0"}`,
			`field "ipv4": "10.0.0" is not an IP address`},
		{api.MethodInterfaceCreate, `{"id":"a","device":"b","vni":1,"pxe":{"server":"x"}}`, `missing field "pxe.filename"`},
		{api.MethodInterfaceCreate, `{"id":"a","device":"b","vni":1,"ipv6":"x"}`, `field "ipv6": "x" is not an IP address`},
		{api.MethodInterfaceCreate, `{"id":"a","device":"b","vni":1,"underlay_ip":"fe80::1%eth0"}`,
			`field "underlay_ip": fe80::1%eth0 has a zone`},
		{api.MethodInterfaceCreate, `{"id":"a","device":"b","vni":1,"mac":"02:00"}`,
			`field "mac": "02:00" is not a MAC address`},
		{api.MethodRouteAdd, `{"vni":1,"prefix":"10.0.0.0","next_hop_vni":1,"next_hop_ip":"fc00::1"}`,
			`field "prefix": "10.0.0.0" is not an IP prefix, such as 10.0.0.0/24`},
		{api.MethodRouteAdd, `{"vni":1,"prefix":"10.0.0.0/8","next_hop_vni":1}`, `missing field "next_hop_ip"`},
		{api.MethodRouteDelete, `{"vni":1,"prefix":"10.0.0.0/8","next_hop_ip":"x"}`,
			`field "next_hop_ip": "x" is not an IP address`},
		{api.MethodFlowList, `{"limit":0}`, `field "limit": want 1 to 1000`},
		{api.MethodFlowList, `{"limit":1001}`, `field "limit": want 1 to 1000`},
		{api.MethodFlowList, `{"filter":{"state":"old"}}`, `field "filter.state": "old" is not new, established, closing`},
		{api.MethodFlowList, `{"cursor":"x"}`, `field "cursor": "x" is not a next_cursor of flow.list`},
		{api.MethodFlowList, `{"filter":{"source":"x"}}`, `unknown field "filter.source"`},
		{api.MethodFlowList, `{"filter":{"src":"x"}}`, `field "filter.src": "x" is not an IP address`},
		{api.MethodFlowList, `{"filter":{"proto":"gre"}}`,
			`field "filter.proto": "gre" is not tcp, udp, icmp, icmp6 or a number up to 255`},
		{api.MethodFlowExplain, `{}`, `missing field "interface", or "id"`},
		{api.MethodFlowExplain, `{"id":0}`, `field "id": no flow has the id 0`},
		{api.MethodFlowExplain, `{"id":1,"proto":"tcp"}`,
			`field "id": an id says all of a flow, so no other field goes with it`},
		{api.MethodFlowExplain, `{"interface":"vm-1"}`, `missing field "proto": tcp, udp, icmp, icmp6 or a number`},
		{api.MethodFlowExplain, `{"interface":"vm-1","proto":"gre"}`,
			`field "proto": "gre" is not tcp, udp, icmp, icmp6 or a number up to 255`},
		{api.MethodFlowExplain, `{"interface":"vm-1","proto":"tcp","origin":"x"}`,
			`field "origin": "x" is not guest or wire`},
		{api.MethodFlowExplain, `{"interface":"vm-1","proto":"tcp","peer":"::1"}`,
			`field "peer": only what comes from the wire has a peer`},
		{api.MethodFlowExplain, `{"interface":"vm-1","proto":"tcp","dst":"x"}`, `field "dst": "x" is not an IP address`},
		{api.MethodFlowExplain, `{"interface":"vm-1","proto":"47","dst_port":1}`,
			`field "src_port": only TCP and UDP have ports`},
		{api.MethodFlowExplain, `{"interface":"vm-1","proto":"tcp","icmp_type":1}`, `field "icmp_type": only ICMP has types`},
		{api.MethodFlowList, `{"filter":1}`, `field "filter": want an object, got number`},
		{api.MethodFlowList, `{"filter":{"offloaded":1}}`, `field "filter.offloaded": want a boolean, got number`},
		{api.MethodRuleList, `{"group":"x"}`, `field "group": want a number from 0 to 4294967295, got string`},
		{api.MethodCaptureStart, `{}`, `missing field "interfaces"`},
		{api.MethodCaptureStart, start(`{"vf":"a","pf":0}`),
			`field "interfaces[0]": want one of "vf", an interface's id, "pf" or "vni", a number, and "all": true`},
		{api.MethodCaptureStart, start(`{"pf":0},{}`),
			`field "interfaces[1]": want one of "vf", an interface's id, "pf" or "vni", a number, and "all": true`},
		{api.MethodCaptureStart, start(`{"all":false}`),
			`field "interfaces[0]": want one of "vf", an interface's id, "pf" or "vni", a number, and "all": true`},
		{api.MethodCaptureStart, start(`{"pf":0},{"tx":true}`), `unknown field "interfaces[1].tx"`},
		{api.MethodCaptureStart, start(`{"pf":"0"}`), `field "interfaces.pf": want a number, got string`},
		{api.MethodCaptureStart, `{"sink_node_ip":"x","udp_src_port":1,"udp_dst_port":1,"interfaces":[]}`,
			`field "sink_node_ip": "x" is not an IP address`},
		{api.MethodCaptureStart, `{"sink_node_ip":"fc00::1","udp_src_port":1,"udp_dst_port":65536,"interfaces":[]}`,
			`field "udp_dst_port": want a number from 0 to 65535, got number 65536`},
		{api.MethodCaptureStart, `{"sink_node_ip":"fc00::1","udp_src_port":1,"interfaces":[],"filter":{}}`,
			`field "filter": want a string, got object`},
		{api.MethodCaptureStart, `{"sink_node_ip":"fc00::1","udp_src_port":1,"interfaces":[],"limits":{"seconds":5}}`,
			`unknown field "limits.seconds"`},
		{api.MethodCaptureStart, `{"sink_node_ip":"fc00::1","udp_src_port":1,"interfaces":[],"limits":{"duration":"30"}}`,
			`field "limits.duration": "30" is not a duration, such as 30s`},
	}
	for _, tt := range tests {
		t.Run(tt.method.Name()+" "+tt.params, func(t *testing.T) {
			_, err := call[json.RawMessage](t, socket, tt.method, tt.params)
			want := &client.Error{
				Code:    api.CodeInvalidParams,
				Message: "invalid params: " + tt.want,
				Data:    api.ErrorData{Reason: api.ReasonInvalidParams},
			}
			assert.Equal(t, want, err)
		})
	}
}

// start returns params of capture.start with these interfaces.
func start(interfaces string) string {
	return `{"sink_node_ip":"fc00:2::1","udp_src_port":3000,"udp_dst_port":3010,"interfaces":[` + interfaces + `]}`
}

func TestErrors(t *testing.T) {
	reject := fault.Wrap(errors.New("flow create: no"), fault.RuleRejected, "vm-1", "vm-1 cannot be captured")
	reject.Rule, reject.RTEFlowError, reject.Errno = "group 1 ...", "action: no sample", syscall.ENOTSUP
	tests := map[string]struct {
		err  error
		want client.Error
	}{
		"fault": {
			reject,
			client.Error{Code: -32006, Message: "vm-1 cannot be captured: flow create: no", Data: api.ErrorData{
				Reason: "RULE_REJECTED", Interface: "vm-1", Rule: "group 1 ...", RTEFlowError: "action: no sample", Errno: 95,
			}},
		},
		"wrapped fault": {
			fmt.Errorf("capture: %w", fault.New(fault.NotSupported, "pf1", "PF1 is not in switchdev mode")),
			client.Error{Code: -32005, Message: "capture: PF1 is not in switchdev mode", Data: api.ErrorData{
				Reason: "NOT_SUPPORTED", Interface: "pf1",
			}},
		},
		"invalid params": {
			fault.New(fault.InvalidParams, "", "the sink is multicast"),
			client.Error{Code: -32602, Message: "the sink is multicast", Data: api.ErrorData{Reason: "INVALID_PARAMS"}},
		},
		"other": {
			errors.New("out of memory"),
			client.Error{Code: -32603, Message: "internal error: out of memory", Data: api.ErrorData{Reason: "INTERNAL_ERROR"}},
		},
	}
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			fake.Err = tt.err
			_, err := call[json.RawMessage](t, socket, api.MethodCaptureStart, start(`{"pf":0}`))
			assert.Equal(t, &tt.want, err)
		})
	}
}

func TestEveryReasonHasACode(t *testing.T) {
	want := map[fault.Reason]api.Code{
		fault.NotFound: -32001, fault.AlreadyActive: -32002, fault.NotActive: -32003, fault.LimitReached: -32004,
		fault.NotSupported: -32005, fault.RuleRejected: -32006, fault.RollbackFailed: -32007,
		fault.PermissionDenied: -32008, fault.AlreadyExists: -32009, fault.InvalidParams: -32602,
	}
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	for reason, code := range want {
		fake.Err = fault.New(reason, "", "no")
		_, err := call[json.RawMessage](t, socket, api.MethodCaptureStart, start(`{"pf":0}`))
		assert.Equal(t, &client.Error{Code: code, Message: "no", Data: api.ErrorData{Reason: string(reason)}}, err)
	}
}

// panics is a System that does.
type panics struct{ server.System }

func (panics) Info() status.System { panic("boom") }

func TestPanic(t *testing.T) {
	services := servertest.New().Services()
	services.System = panics{}
	socket := servertest.Start(t, services)
	c, err := client.Dial(t.Context(), socket)
	require.NoError(t, err)
	defer c.Close()
	err = c.Call(t.Context(), api.MethodSystemInfo, nil, nil)
	want := &client.Error{
		Code:    api.CodeInternalError,
		Message: "internal error: system.info panicked: boom",
		Data:    api.ErrorData{Reason: "INTERNAL_ERROR"},
	}
	assert.Equal(t, want, err)
	assert.NoError(t, c.Call(t.Context(), api.MethodCaptureStatus, nil, nil), "the connection must go on")
}

func TestEveryMethodIsServed(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	for _, method := range api.Methods {
		_, err := call[json.RawMessage](t, socket, method, `{"no such field":1}`)
		assert.ErrorContains(t, err, `unknown field "no such field"`, method.Name())
	}
}

func TestSystemInfo(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	info := must[api.SystemInfoResult](t, socket, api.MethodSystemInfo, "")
	assert.Equal(t, api.Version, info.APIVersion)
	assert.Equal(t, "1.2.3", info.Version)
}

func TestTrace(t *testing.T) {
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	started := must[api.TraceStartResult](t, socket, api.MethodTraceStart,
		`{"interface":"vm-1","filter":"udp","drops":true,"count":1,"client":"test"}`)
	assert.Len(t, started.Warnings, 1)
	want := status.TraceRequest{Interface: "vm-1", Filter: "udp", Drops: true, Count: 1, Client: "test"}
	assert.Equal(t, want, fake.Last().Trace)
	fake.Traced[0].Flow = &fake.FlowTable[0]
	read := must[api.TraceReadResult](t, socket, api.MethodTraceRead, "")
	require.Len(t, read.Packets, 1)
	p := read.Packets[0]
	assert.Equal(t, fake.Traced[0].Frame, p.Frame)
	assert.Equal(t, api.TraceNode{Name: "flow_route", Begin: 620, Cycles: 300, Burst: 1}, p.Nodes[3])
	assert.Equal(t, "10.0.0.2", p.Flow.Dst)
	assert.True(t, p.Dropped)
	assert.EqualValues(t, 3, read.Missed)
	assert.True(t, read.Ended)
	must[api.Done](t, socket, api.MethodTraceStop, "")

	fake.Err = fault.New(fault.AlreadyActive, "vm-1", "dpctl traces interface vm-1")
	_, err := call[api.TraceStartResult](t, socket, api.MethodTraceStart, `{"interface":"vm-1"}`)
	assert.ErrorContains(t, err, "dpctl traces interface vm-1")
	_, err = call[api.TraceStartResult](t, socket, api.MethodTraceStart, `{}`)
	assert.ErrorContains(t, err, `missing field "interface"`)
}

func TestFlowExplain(t *testing.T) {
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	must[api.FlowExplainResult](t, socket, api.MethodFlowExplain, `{"id":7}`)
	assert.Equal(t, status.ExplainRequest{ID: 7}, fake.Last().Explain)
	must[api.FlowExplainResult](t, socket, api.MethodFlowExplain,
		`{"interface":"vm-1","origin":"wire","peer":"fc00::1","src":"10.0.0.9","proto":"udp","src_port":1,"dst_port":2}`)
	assert.Equal(t, status.ExplainRequest{Interface: "vm-1", FromWire: true, Peer: netip.MustParseAddr("fc00::1"),
		Src: netip.MustParseAddr("10.0.0.9"), Proto: 17, SrcPort: 1, DstPort: 2}, fake.Last().Explain)
	must[api.FlowExplainResult](t, socket, api.MethodFlowExplain, `{"interface":"vm-1","proto":"icmp6","dst":"fd00::9"}`)
	assert.Equal(t, uint16(128<<8), fake.Last().Explain.SrcPort)
	must[api.FlowExplainResult](t, socket, api.MethodFlowExplain,
		`{"interface":"vm-1","proto":"icmp","icmp_type":0,"dst":"10.0.0.9"}`)
	assert.Zero(t, fake.Last().Explain.SrcPort)

	x := must[api.FlowExplainResult](t, socket, api.MethodFlowExplain, `{"id":7}`)
	assert.Equal(t, fake.Explanation.Verdict, x.Verdict)
	assert.Equal(t, fake.FlowTable[0].ID, x.Flow.ID)
	assert.Equal(t, api.ExplainStep{Subject: "route", Text: "10.0.0.2 is the address of vm-2 on this node"}, x.Steps[1])
	assert.Equal(t, "flow/1", x.Rule.Name)
	assert.True(t, x.Captures[0].Copied)
}

func TestPorts(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	list := must[map[string][]map[string]any](t, socket, api.MethodPortList, "")["ports"]
	require.Len(t, list, 4)
	assert.Equal(t, map[string]any{
		"id": 0.0, "name": "net_eswitch0", "role": "pf", "index": 0.0, "switch_domain": 0.0,
		"mac": "02:00:00:00:01:00", "mtu": 1500.0, "link": "up", "started": true,
	}, list[0])
	assert.Nil(t, list[1]["switch_domain"])
	assert.Equal(t, "down", list[1]["link"])

	stats := must[api.PortStatsResult](t, socket, api.MethodPortStats, `{"port":"net_eswitch0_pf1"}`).Ports
	assert.Equal(t, []api.PortStats{{
		ID: 1, Name: "net_eswitch0_pf1", RxPackets: 10, RxBytes: 1000, RxMissed: 1, TxPackets: 20, TxBytes: 2000,
		Xstats: map[string]uint64{"hw_rx_packets": 7},
	}}, stats)
	assert.Len(t, must[api.PortStatsResult](t, socket, api.MethodPortStats, "").Ports, 4)
}

func TestInterfaces(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	assert.Empty(t, must[api.InterfaceListResult](t, socket, api.MethodInterfaceList, "").Interfaces)

	want := api.Interface{
		ID: "vm-1", Device: "vf0", VNI: 100, IPv4: "10.0.0.1", IPv6: "fd00::1", UnderlayIP: "fc00:1::8000:0:1",
	}
	want.Hostname, want.PXE = "web", &api.PXE{Server: "10.0.0.9", Filename: "pxelinux.0"}
	create := `{"id":"vm-1","device":"vf0","vni":100,"ipv4":"10.0.0.1","ipv6":"fd00::1",
		"hostname":"web","pxe":{"server":"10.0.0.9","filename":"pxelinux.0"}}`
	assert.Equal(t, want, must[api.Interface](t, socket, api.MethodInterfaceCreate, create))
	assert.Equal(t, want, must[api.Interface](t, socket, api.MethodInterfaceGet, `{"id":"vm-1"}`))
	list := must[api.InterfaceListResult](t, socket, api.MethodInterfaceList, "")
	assert.Equal(t, []api.Interface{want}, list.Interfaces)
	_, err := call[api.Interface](t, socket, api.MethodInterfaceCreate, create)
	assert.ErrorContains(t, err, "exists already")
	must[api.Done](t, socket, api.MethodInterfaceDelete, `{"id":"vm-1"}`)
	_, err = call[api.Interface](t, socket, api.MethodInterfaceGet, `{"id":"vm-1"}`)
	assert.ErrorContains(t, err, `no interface "vm-1"`)
}

func TestRoutes(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	add := `{"vni":100,"prefix":"10.1.0.0/16","next_hop_vni":100,"next_hop_ip":"fc00:2::1"}`
	want := api.Route{VNI: 100, Prefix: "10.1.0.0/16", NextHopVNI: 100, NextHopIP: "fc00:2::1"}
	assert.Equal(t, want, must[api.Route](t, socket, api.MethodRouteAdd, add))
	list := func(params string) []api.Route {
		return must[api.RouteListResult](t, socket, api.MethodRouteList, params).Routes
	}
	assert.Equal(t, []api.Route{want}, list(""))
	assert.Equal(t, []api.Route{want}, list(`{"vni":100}`))
	assert.Empty(t, list(`{"vni":101}`))
	must[api.Done](t, socket, api.MethodRouteDelete, `{"vni":100,"prefix":"10.1.0.0/16"}`)
	assert.Empty(t, list(""))
}

func TestFlows(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	echo := uint8(128)
	flows := must[api.FlowListResult](t, socket, api.MethodFlowList, "")
	require.Len(t, flows.Flows, 2)
	assert.Empty(t, flows.NextCursor)
	assert.Equal(t, api.Flow{
		ID: 2, Interface: "vm-2", Origin: "wire", VNI: 100, Src: "fd00::9", Dst: "fd00::2", Proto: "icmp6",
		ICMPType: &echo, InPort: "net_eswitch0", OutPort: "net_eswitch0_representor_vf1", Action: "deliver",
		State: "new", Packets: 1, Bytes: 118, IdleSeconds: 3,
	}, flows.Flows[1])

	filters := map[string][]uint64{
		`{}`:                                         {1, 2},
		`{"interface":"vm-1"}`:                       {1},
		`{"vni":101}`:                                nil,
		`{"src":"fd00:0::9"}`:                        {2},
		`{"dst":"10.0.0.2","proto":"tcp"}`:           {1},
		`{"proto":"6","src_port":40000}`:             {1},
		`{"dst_port":5201,"offloaded":true}`:         {1},
		`{"offloaded":false}`:                        {2},
		`{"address":"10.0.0.2"}`:                     {1},
		`{"address":"fd00::9","state":"new"}`:        {2},
		`{"state":"closing"}`:                        nil,
		`{"dst":"10.0.0.2","proto":"udp","vni":100}`: nil,
	}
	for filter, want := range filters {
		t.Run(filter, func(t *testing.T) {
			var ids []uint64
			for _, f := range must[api.FlowListResult](t, socket, api.MethodFlowList, `{"filter":`+filter+`}`).Flows {
				ids = append(ids, f.ID)
			}
			assert.Equal(t, want, ids)
		})
	}
}

func TestFlowPages(t *testing.T) {
	fake := servertest.New()
	fake.FlowTable = nil
	for id := range 1000 {
		fake.FlowTable = append(fake.FlowTable, status.Flow{ID: uint64(id), VNI: uint32(id % 3)})
	}
	socket := servertest.Start(t, fake.Services())
	for _, limit := range []int{1, 2, 7, 100, 1000} {
		var ids []uint64
		params := fmt.Sprintf(`{"filter":{"vni":1},"limit":%d}`, limit)
		for params != "" {
			page := must[api.FlowListResult](t, socket, api.MethodFlowList, params)
			assert.LessOrEqual(t, len(page.Flows), limit)
			for _, f := range page.Flows {
				ids = append(ids, f.ID)
			}
			params = ""
			if page.NextCursor != "" {
				params = fmt.Sprintf(`{"filter":{"vni":1},"limit":%d,"cursor":%q}`, limit, page.NextCursor)
			}
		}
		require.Len(t, ids, 333)
		assert.IsIncreasing(t, ids)
	}
}

func TestRulesAndGraph(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	assert.Len(t, must[api.RuleListResult](t, socket, api.MethodRuleList, "").Rules, 2)
	rules := must[api.RuleListResult](t, socket, api.MethodRuleList, `{"group":0}`).Rules
	require.Len(t, rules, 1)
	assert.Nil(t, rules[0].Hits)
	assert.NotNil(t, must[api.RuleListResult](t, socket, api.MethodRuleList, `{"port":"x"}`).Rules)
	stats := must[api.GraphStatsResult](t, socket, api.MethodGraphStats, "")
	assert.Len(t, stats.Nodes, 2)
	assert.Contains(t, stats.Drops, api.GraphDrops{Interface: "vm-1", Port: "net_eswitch0_representor_vf0",
		Reason: "spoofed", Packets: 42})
	assert.Contains(t, must[api.GraphDOTResult](t, socket, api.MethodGraphDOT, "").DOT, `"rx-0" -> "classify"`)
}

func TestCapture(t *testing.T) {
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	session := must[api.CaptureSession](t, socket, api.MethodCaptureStart, start(`{"vf":"vm-1"},{"pf":0}`))
	assert.Equal(t, spec.Request{
		Sink: netip.MustParseAddr("fc00:2::1"), UDPSrcPort: 3000, UDPDstPort: 3010,
		Targets: []spec.Target{{VF: "vm-1"}, {PF: 0}},
	}.WithDefaults(), fake.Last().Capture)

	status := must[json.RawMessage](t, socket, api.MethodCaptureStatus, "")
	assert.JSONEq(t, `{"active":true,"sessions":[{"name":"default","state":"active","started_at":"2026-05-04T03:02:01Z",
		"sink_node_ip":"fc00:2::1","udp_src_port":3000,"udp_dst_port":3010,"encap":"udp","direction":"rx",
		"packets":10,"bytes":1000,
		"interfaces":[{"vf":"vm-1","direction":"rx","mode":"hardware","port":"net_eswitch0_representor_vf0",
				"label":1,"packets":5,"bytes":500},
			{"pf":0,"direction":"rx","mode":"hardware","port":"net_eswitch0","label":2,"packets":5,"bytes":500}],
		"warnings":["the NIC overwrites the UDP source port"]}]}`, string(status))
	assert.Equal(t, session, must[api.CaptureStatusResult](t, socket, api.MethodCaptureStatus, "").Sessions[0])

	stopped := must[api.CaptureStopResult](t, socket, api.MethodCaptureStop, `{"name":"default"}`)
	assert.Equal(t, 2, stopped.StoppedInterfaces)
	_, err := call[json.RawMessage](t, socket, api.MethodCaptureStop, "")
	assert.ErrorContains(t, err, "no capture is active")

	ended := must[api.CaptureStatusResult](t, socket, api.MethodCaptureStatus, "")
	assert.False(t, ended.Active)
	require.Len(t, ended.History, 1)
	assert.Equal(t, "stopped", ended.History[0].EndReason)
	assert.Equal(t, session.StartedAt.Add(time.Minute), *ended.History[0].EndedAt)
}

func TestWaitingCaptures(t *testing.T) {
	fake := servertest.New()
	fake.WaitingCaptures = []spec.Session{
		{Name: "lab", State: spec.Waiting, Warnings: []string{"not restored: no interface"}},
	}
	socket := servertest.Start(t, fake.Services())
	status := must[api.CaptureStatusResult](t, socket, api.MethodCaptureStatus, "")
	assert.False(t, status.Active)
	assert.Empty(t, status.Sessions)
	require.Len(t, status.Waiting, 1)
	assert.Equal(t, "waiting", status.Waiting[0].State)
	assert.Equal(t, []string{"not restored: no interface"}, status.Waiting[0].Warnings)
}

// What is selected by network, or as all, becomes the interfaces that are there.
func TestSelectors(t *testing.T) {
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	create := func(id string, vni uint32) {
		must[json.RawMessage](t, socket, api.MethodInterfaceCreate,
			fmt.Sprintf(`{"id":%q,"device":"d-%s","vni":%d}`, id, id, vni))
	}
	_, err := call[json.RawMessage](t, socket, api.MethodCaptureStart, start(`{"all":true}`))
	assert.ErrorContains(t, err, "there is no interface to capture on this node")
	create("a", 100)
	create("b", 200)
	create("c", 100)
	vf := func(ids ...string) (all []spec.Target) {
		for _, id := range ids {
			all = append(all, spec.Target{VF: id})
		}
		return all
	}
	tests := map[string][]spec.Target{
		`{"vni":100}`:                         vf("a", "c"),
		`{"vni":200}`:                         vf("b"),
		`{"all":true}`:                        vf("a", "b", "c"),
		`{"vni":100},{"vni":200}`:             vf("a", "c", "b"),
		`{"vf":"c"},{"vni":100},{"all":true}`: vf("c", "a", "b"),
		`{"vf":"a"},{"vf":"a"}`:               vf("a", "a"),
		`{"pf":0},{"vni":200}`:                append([]spec.Target{{PF: 0}}, vf("b")...),
	}
	for selectors, want := range tests {
		must[json.RawMessage](t, socket, api.MethodCaptureStart, start(selectors))
		assert.Equal(t, want, fake.Last().Capture.Targets, selectors)
		must[json.RawMessage](t, socket, api.MethodCaptureStop, "")
	}
	_, err = call[json.RawMessage](t, socket, api.MethodCaptureStart, start(`{"vni":300}`))
	assert.ErrorContains(t, err, "virtual network 300 has no interface on this node")
}

// A capture that is held can tell when its client hangs up.
func TestHeldCapture(t *testing.T) {
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	c, err := client.Dial(t.Context(), socket)
	require.NoError(t, err)
	var session api.CaptureSession
	require.NoError(t, c.Call(t.Context(), api.MethodCaptureStart, api.CaptureStartParams{
		SinkNodeIP: "fc00:2::1", UDPSrcPort: 3000, UDPDstPort: 3010,
		Interfaces: []api.CaptureSelector{{VF: "vm-1"}}, Hold: true,
	}, &session))
	assert.True(t, fake.Last().Capture.Held)
	assert.True(t, session.Held)
	require.NoError(t, c.Call(t.Context(), api.MethodCaptureStatus, nil, nil))
	select {
	case <-fake.Last().Hangup:
		require.Fail(t, "the client is still there")
	default:
	}
	require.NoError(t, c.Close())
	<-fake.Last().Hangup
}

func TestCaptureWithFilterAndLimits(t *testing.T) {
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	session := must[api.CaptureSession](t, socket, api.MethodCaptureStart, `{"sink_node_ip":"fc00:2::1",
		"udp_src_port":3000,"udp_dst_port":3010,"interfaces":[{"vf":"vm-1"}],"filter":"tcp port 443",
		"direction":"tx","limits":{"duration":"90s","packets":7,"bytes":8}}`)
	assert.Equal(t, "tcp port 443", fake.Last().Capture.Filter)
	assert.Equal(t, spec.TX, fake.Last().Capture.Direction)
	assert.Equal(t, "tx", session.Direction)
	assert.Equal(t, "tx", session.Interfaces[0].Direction)
	assert.Equal(t, spec.Limits{Duration: 90 * time.Second, Packets: 7, Bytes: 8}, fake.Last().Capture.Limits)
	assert.Equal(t, &api.CaptureLimits{Duration: "1m30s", Packets: 7, Bytes: 8}, session.Limits)
	assert.Equal(t, []api.CaptureRule{
		{Pattern: "eth has_vlan is 0 / ipv4 / tcp dst is 443", Action: "sample", Packets: 5, Bytes: 500},
		{Pattern: "eth", Action: "pass", Packets: 3, Bytes: 300},
	}, session.Interfaces[0].Rules)

	ports := must[api.CaptureCapabilitiesResult](t, socket, api.MethodCaptureCapabilities, "").Ports
	require.Len(t, ports, 2)
	assert.True(t, ports[0].RX.Supported)
	assert.Equal(t, "attr_transfer: not in switchdev mode", ports[1].RX.Reason)
	assert.NotNil(t, ports[1].Filter)
}
