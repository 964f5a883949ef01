// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/server/servertest"
)

// exchange does what socat does: it sends everything, half-closes, and reads to the end.
func exchange(t *testing.T, socket, send string) string {
	t.Helper()
	conn := dial(t, socket)
	_, err := io.WriteString(conn, send)
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(answer)
}

func dial(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn.(*net.UnixConn)
}

const (
	statusCall  = `{"jsonrpc":"2.0","id":1,"method":"capture.status"}`
	statusReply = `{"jsonrpc":"2.0","id":1,"result":{"active":false,"sessions":[]}}`
)

func invalidRequest(id, message string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"error":{"code":-32600,"message":"invalid request: ` + message +
		`","data":{"reason":"INVALID_REQUEST"}}}`
}

func TestProtocol(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	reply := func(id string) string { return strings.Replace(statusReply, `"id":1`, `"id":`+id, 1) }
	call := func(id string) string { return strings.Replace(statusCall, `"id":1`, `"id":`+id, 1) }
	notification := strings.Replace(statusCall, `"id":1,`, "", 1)
	parseError := func(message string) string {
		return `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error: ` + message +
			`","data":{"reason":"PARSE_ERROR"}}}`
	}
	noMethod := `{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no method \"foo\"",` +
		`"data":{"reason":"METHOD_NOT_FOUND"}}}`

	tests := map[string]struct {
		send string
		want []string // lines
	}{
		"nothing":           {"", nil},
		"white space":       {" \n\t\n", nil},
		"one":               {statusCall + "\n", []string{statusReply}},
		"without a newline": {statusCall, []string{statusReply}},
		"on several lines":  {strings.ReplaceAll(statusCall, ",", ",\n"), []string{statusReply}},
		"two on one line":   {statusCall + call("2"), []string{statusReply, reply("2")}},
		"string id":         {call(`"a\"b"`), []string{reply(`"a\"b"`)}},
		"negative id":       {call("-5"), []string{reply("-5")}},
		"fractional id":     {call("1.50"), []string{reply("1.50")}},
		"huge id": {call("123456789012345678901234567890"),
			[]string{reply("123456789012345678901234567890")}},
		"null id": {call("null"), []string{reply("null")}},
		"object id": {call("{}"),
			[]string{invalidRequest("null", `\"id\" must be a string, a number or null, got object`)}},
		"null params": {`{"jsonrpc":"2.0","id":1,"method":"capture.status","params":null}`,
			[]string{statusReply}},
		"empty params": {`{"jsonrpc":"2.0","id":1,"method":"capture.status","params":{}}`,
			[]string{statusReply}},
		"notification":         {notification, nil},
		"unknown notification": {`{"jsonrpc":"2.0","method":"foo"}`, nil},
		"unknown method":       {`{"jsonrpc":"2.0","id":7,"method":"foo"}`, []string{noMethod}},
		"number":               {"1", []string{invalidRequest("null", "want an object, got number")}},
		"null":                 {"null", []string{invalidRequest("null", "want an object, got null")}},
		"true":                 {"true", []string{invalidRequest("null", "want an object, got boolean")}},
		"no method": {`{"jsonrpc":"2.0","id":3}`,
			[]string{invalidRequest("3", `\"method\" must be a string, got nothing`)}},
		"method of the wrong type": {`{"jsonrpc":"2.0","method":1}`,
			[]string{invalidRequest("null", `\"method\" must be a string, got number`)}},
		"no version": {`{"id":3,"method":"capture.status"}`,
			[]string{invalidRequest("3", `\"jsonrpc\" must be \"2.0\"`)}},
		"version 1": {`{"jsonrpc":"1.0","id":3,"method":"capture.status"}`,
			[]string{invalidRequest("3", `\"jsonrpc\" must be \"2.0\"`)}},
		"params of the wrong type": {`{"jsonrpc":"2.0","id":3,"method":"capture.status","params":4}`,
			[]string{invalidRequest("3", `\"params\" must be an object, got number`)}},
		"unknown member": {`{"jsonrpc":"2.0","id":3,"method":"capture.status","parms":{}}`,
			[]string{invalidRequest("3", `unknown field \"parms\"`)}},
		"a response": {`{"jsonrpc":"2.0","id":3,"result":1}`,
			[]string{invalidRequest("3", `unknown field \"result\"`)}},
		"malformed, then valid": {"{bad}\n" + statusCall,
			[]string{parseError("invalid character 'b' looking for beginning of object key string"), statusReply}},
		"malformed on two lines": {"{\"a\":\n1 2} x y\n" + statusCall,
			[]string{parseError("invalid character '2' after object key:value pair"), statusReply}},
		"valid, then malformed": {statusCall + "}\n" + statusCall,
			[]string{statusReply, parseError("invalid character '}' looking for beginning of value"), statusReply}},
		"not JSON at all": {"GET / HTTP/1.1\n\n",
			[]string{parseError("invalid character 'G' looking for beginning of value")}},
		"cut off":     {statusCall[:20], []string{parseError("unexpected end of the JSON text")}},
		"empty batch": {"[]", []string{invalidRequest("null", "the batch is empty")}},
		"batch": {"[" + statusCall + "," + notification + "," + call("2") + "]",
			[]string{"[" + statusReply + "," + reply("2") + "]"}},
		"batch behind white space": {" \n\t [" + statusCall + "]", []string{"[" + statusReply + "]"}},
		"batch of one":             {"[" + statusCall + "]", []string{"[" + statusReply + "]"}},
		"batch of notifications":   {"[" + notification + "," + notification + "]\n" + statusCall, []string{statusReply}},
		"batch of nonsense": {"[1,[]]", []string{"[" + invalidRequest("null",
			"want an object, got number") + "," + invalidRequest("null", "want an object, got array") + "]"}},
		"mixed batch": {"[" + statusCall + `,{"foo":"boo"},` + `{"jsonrpc":"2.0","id":7,"method":"foo"}` + "]",
			[]string{"[" + statusReply + "," + invalidRequest("null", `unknown field \"foo\"`) + "," + noMethod + "]"}},
		"malformed batch": {"[" + statusCall + ",\n{]\n" + statusCall,
			[]string{parseError("invalid character ']' looking for beginning of object key string"), statusReply}},
		"batch of too many": {"[" + strings.Repeat("1,", 100) + "1]",
			[]string{invalidRequest("null", "a batch of 101, at most 100 are allowed")}},
		"one after the batch": {"[" + statusCall + "]" + call("9"), []string{"[" + statusReply + "]", reply("9")}},
		"message as large as can be": {statusCall[:1] + strings.Repeat(" ", 1<<20-len(statusCall)) + statusCall[1:],
			[]string{statusReply}},
		"message too large": {statusCall[:1] + strings.Repeat(" ", 1<<20-len(statusCall)+1) + statusCall[1:],
			[]string{invalidRequest("null", "the message is larger than 1048576 bytes")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var want string
			for _, line := range tt.want {
				want += line + "\n"
			}
			assert.Equal(t, want, exchange(t, socket, tt.send))
			assert.Equal(t, statusReply+"\n", exchange(t, socket, statusCall), "the daemon must go on")
		})
	}
}

func TestAnswersWithoutNewlineAtOnce(t *testing.T) {
	conn := dial(t, servertest.Start(t, servertest.New().Services()))
	lines := bufio.NewReader(conn)
	for range 3 {
		_, err := io.WriteString(conn, statusCall)
		require.NoError(t, err)
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, statusReply+"\n", line)
	}
	_, err := io.WriteString(conn, `{"bad"]`)
	require.NoError(t, err)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, line, "-32700")
}
