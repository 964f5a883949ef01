// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"dpservice/rpc/api"
)

// nextSteps say what to do after the daemon has refused a call: by the reason, and the method, its group, or neither.
var nextSteps = map[string]map[string]string{
	"NOT_FOUND": {
		"interface":     "dpctl interface list shows the interfaces",
		"trace":         "dpctl interface list shows the interfaces",
		"capture.start": "dpctl interface list shows the interfaces, dpctl port list the ports",
		"capture.stop":  "dpctl capture status shows the captures",
		"port":          "dpctl port list shows the ports",
		"rule":          "dpctl port list shows the ports",
		"route":         "dpctl route list shows the routes",
		"flow":          "dpctl flow list shows the flows, dpctl interface list the interfaces",
		"":              "the commands named list show what there is",
	},
	"ALREADY_EXISTS": {
		"interface": "dpctl interface list shows the interfaces; delete the one that is there, or take another id, device " +
			"or address",
		"route": "dpctl route list shows the routes; delete the one that is there first",
		"":      "delete the one that is there first, or take another name",
	},
	"ALREADY_ACTIVE": {
		"trace": "wait until the other trace ends, or end the program that it belongs to",
		"": "dpctl capture status shows the captures; stop the other one, or give this one another --name and " +
			"other interfaces",
	},
	"NOT_ACTIVE": {"": "dpctl capture status shows the captures, and those that have ended"},
	"LIMIT_REACHED": {
		"capture": "dpctl capture status shows what is captured; capture less, or raise capture.max_interfaces or " +
			"max_rules",
		"interface": "dpctl port list shows the ports that are free",
		"":          "try again later, or raise the limit in the daemon's configuration",
	},
	"INVALID_PARAMS": {
		"capture.start": "the command with --help shows what it takes; a filter is in tcpdump's language",
		"trace.start":   "the command with --help shows what it takes; a filter is in tcpdump's language",
		"":              "the command with --help shows what it takes",
	},
	"NOT_SUPPORTED": {
		"capture": "dpctl capture capabilities shows what can be captured here",
		"":        "dpctl port list shows what the ports are",
	},
	"RULE_REJECTED": {
		"capture": "dpctl capture capabilities shows what this NIC takes; --dry-run tries without doing",
		"":        "dpctl rule list shows what is in the NIC; docs/connectx.md what its driver refuses",
	},
	"ROLLBACK_FAILED": {
		"capture": "dpctl capture stop removes what is left; repeat it until it succeeds",
		"":        "dpctl rule list shows what is in the NIC; repeat the command until it succeeds",
	},
	"TIMED_OUT":         {"": "repeat the command: the connection had no request for too long"},
	"PARSE_ERROR":       {"": "the request was no JSON-RPC 2.0: the parameters of the command rpc are JSON"},
	"INVALID_REQUEST":   {"": "the request was no JSON-RPC 2.0: the parameters of the command rpc are JSON"},
	"PERMISSION_DENIED": {"": "dpctl system access shows what you may do"},
	"METHOD_NOT_FOUND":  {"": "dpctl system info shows the daemon's version: is it older than this dpctl?"},
	"INTERNAL_ERROR":    {"": "see the daemon's log"},
}

// nextStep returns what to do next; empty for a reason that only a newer daemon has.
func nextStep(m api.AnyMethod, reason string) string {
	steps := nextSteps[reason]
	group, _, _ := strings.Cut(m.Name(), ".")
	for _, key := range []string{m.Name(), group, ""} {
		if step := steps[key]; step != "" {
			return step
		}
	}
	return ""
}
