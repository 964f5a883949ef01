// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dpservice/rpc/api"
)

// request is a JSON-RPC request object, taken apart.
type request struct {
	ID     json.RawMessage // string, number or null; nil for a notification
	Method json.RawMessage
	Params json.RawMessage // object or array; nil if there are none
}

// normal returns the request as jsonrpc2 wants it: with an id that it understands, which is always the same as
// there is only one request at a time.
func (r request) normal() []byte {
	members := map[string]json.RawMessage{"jsonrpc": json.RawMessage(`"2.0"`), "method": r.Method}
	if r.Params != nil {
		members["params"] = r.Params
	}
	if r.ID != nil {
		members["id"] = json.RawMessage("1")
	}
	data, err := json.Marshal(members)
	if err != nil {
		panic(err) // every member is valid JSON
	}
	return data
}

// parseRequest checks that raw is a request. If it is not, it returns the error to answer with, and the request's
// id if it can be read, else null.
func parseRequest(raw json.RawMessage) (request, json.RawMessage) {
	invalid := func(r request, format string, args ...any) (request, json.RawMessage) {
		if r.ID == nil {
			r.ID = null
		}
		message := "invalid request: " + fmt.Sprintf(format, args...)
		return r, rpcError(api.CodeInvalidRequest, api.ReasonInvalidRequest, message)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return invalid(request{}, "want an object, got %s", kind(raw))
	}
	var r request
	if id, ok := members["id"]; ok {
		if k := kind(id); k != "string" && k != "number" && k != "null" {
			return invalid(r, `"id" must be a string, a number or null, got %s`, k)
		}
		r.ID = id
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains([]string{"jsonrpc", "id", "method", "params"}, name) {
			return invalid(r, "unknown field %q", name)
		}
	}
	if string(members["jsonrpc"]) != `"2.0"` {
		return invalid(r, `"jsonrpc" must be "2.0"`)
	}
	r.Method = members["method"]
	if k := kind(r.Method); k != "string" {
		return invalid(r, `"method" must be a string, got %s`, k)
	}
	if params := members["params"]; params != nil && !isNull(params) {
		if k := kind(params); k != "object" && k != "array" {
			return invalid(r, `"params" must be an object, got %s`, k)
		}
		r.Params = params
	}
	return r, nil
}

// kind names the type of a valid JSON text, for people.
func kind(raw json.RawMessage) string {
	switch {
	case len(raw) == 0:
		return "nothing"
	case raw[0] == '{':
		return "object"
	case raw[0] == '[':
		return "array"
	case raw[0] == '"':
		return "string"
	case raw[0] == 'n':
		return "null"
	case strings.ContainsRune("tf", rune(raw[0])):
		return "boolean"
	default:
		return "number"
	}
}
