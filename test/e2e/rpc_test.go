// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// response is a JSON-RPC 2.0 response.
type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    api.Code      `json:"code"`
		Message string        `json:"message"`
		Data    api.ErrorData `json:"data"`
	} `json:"error"`
}

// socat sends text to the daemon's socket as a shell user does and returns the lines of the answer.
func (b *lab) socat(text string) []string {
	b.t.Helper()
	r, err := b.net.Run(b.ctx, text, "socat", "-t", "5", "-", "UNIX-CONNECT:"+b.daemons[0].Socket)
	require.NoError(b.t, err)
	require.NoError(b.t, r.Err())
	var lines []string
	for line := range strings.Lines(r.Stdout) {
		lines = append(lines, line)
	}
	return lines
}

// TestJSONRPCThroughSocat speaks to the daemon with nothing but socat.
func TestJSONRPCThroughSocat(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1)
	const status = `{"jsonrpc":"2.0","id":1,"method":"capture.status"}` + "\n"

	lines := b.socat(status)
	require.Len(t, lines, 1, "one answer")
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":{"active":false,"sessions":[]}}`, lines[0])

	start := func(changes string) string {
		params := map[string]any{"sink_node_ip": "fc00:99::1", "udp_src_port": 3000, "udp_dst_port": 3010,
			"interfaces": []any{map[string]any{"vf": "vm-1"}}}
		require.NoError(t, json.Unmarshal([]byte(changes), &params))
		request, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 7, "method": "capture.start", "params": params})
		require.NoError(t, err)
		return string(request)
	}
	for name, test := range map[string]struct {
		request  string
		code     api.Code
		mentions string
	}{
		"malformed":          {`{"jsonrpc":"2.0","id":7,`, api.CodeParseError, ""},
		"no request":         {`{"id":7,"method":"capture.status","jsonrpc":"1.0"}`, api.CodeInvalidRequest, ""},
		"an empty batch":     {`[]`, api.CodeInvalidRequest, ""},
		"a number":           {`17`, api.CodeInvalidRequest, ""},
		"unknown method":     {`{"jsonrpc":"2.0","id":7,"method":"capture.pause"}`, api.CodeMethodNotFound, "capture.pause"},
		"unknown field":      {start(`{"colour":"red"}`), api.CodeInvalidParams, "colour"},
		"wrong type":         {start(`{"udp_dst_port":"3010"}`), api.CodeInvalidParams, "udp_dst_port"},
		"port out of range":  {start(`{"udp_dst_port":65536}`), api.CodeInvalidParams, "udp_dst_port"},
		"port 0":             {start(`{"udp_dst_port":0}`), api.CodeInvalidParams, "udp_dst_port"},
		"IPv4 sink":          {start(`{"sink_node_ip":"10.0.0.1"}`), api.CodeInvalidParams, "IPv6"},
		"unspecified sink":   {start(`{"sink_node_ip":"::"}`), api.CodeInvalidParams, "::"},
		"multicast sink":     {start(`{"sink_node_ip":"ff02::1"}`), api.CodeInvalidParams, "ff02::1"},
		"link-local sink":    {start(`{"sink_node_ip":"fe80::1"}`), api.CodeInvalidParams, "fe80::1"},
		"no interfaces":      {start(`{"interfaces":[]}`), api.CodeInvalidParams, "no interface"},
		"an interface twice": {start(`{"interfaces":[{"vf":"vm-1"},{"vf":"vm-1"}]}`), api.CodeInvalidParams, "vm-1"},
		"unknown interface":  {start(`{"interfaces":[{"vf":"vm-9"}]}`), api.CodeNotFound, "vm-9"},
		"TX of an uplink": {start(`{"interfaces":[{"pf":1}],"direction":"tx"}`), api.CodeNotSupported,
			"what leaves by pf1 cannot be captured"},
		"nothing to stop": {`{"jsonrpc":"2.0","id":7,"method":"capture.stop"}`, api.CodeNotActive, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rules := b.rules()
			lines := b.socat(test.request + "\n")
			require.NotEmpty(t, lines)
			var r response
			require.NoError(t, json.Unmarshal([]byte(lines[0]), &r), lines[0])
			require.Equal(t, "2.0", r.Version)
			require.NotNil(t, r.Error, lines[0])
			require.Equal(t, test.code, r.Error.Code, lines[0])
			require.Contains(t, r.Error.Message, test.mentions)
			require.NotEmpty(t, r.Error.Data.Reason)
			require.Equal(t, rules, b.rules(), "an error changes nothing")
			require.Len(t, b.socat(status), 1, "the daemon goes on")
		})
	}
}

// TestIdleClientsLockNobodyOut uses up all connections of the socket with clients that do nothing, or send half a
// request.
func TestIdleClientsLockNobodyOut(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1)
	const places = 72
	hold := func(sent string) (release func()) {
		var all []net.Conn
		for range places {
			conn, err := net.Dial("unix", b.daemons[0].Socket)
			require.NoError(t, err)
			_, err = conn.Write([]byte(sent))
			require.NoError(t, err)
			all = append(all, conn)
		}
		return func() {
			for _, conn := range all {
				_ = conn.Close()
			}
		}
	}
	status := func() topology.Result {
		r, err := b.daemons[0].Dpctl(b.ctx, "capture", "status")
		require.NoError(t, err)
		return r
	}
	release := hold("{")
	r := status()
	require.ErrorContains(t, r.Err(), "too many clients: 72 are connected already (LIMIT_REACHED)")
	release()
	require.Eventually(t, func() bool { return status().Err() == nil }, 10*time.Second, 100*time.Millisecond)

	release = hold("")
	defer release()
	time.Sleep(1100 * time.Millisecond)
	require.NoError(t, status().Err(), "an idle connection gives way")
}
