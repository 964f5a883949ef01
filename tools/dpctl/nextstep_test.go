// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"dpservice/dpservice/fault"
	"dpservice/rpc/api"
)

func TestNextStep(t *testing.T) {
	assert.Contains(t, nextStep(api.MethodCaptureStop, "NOT_FOUND"), "capture status")
	assert.Contains(t, nextStep(api.MethodInterfaceGet, "NOT_FOUND"), "interface list")
	assert.Contains(t, nextStep(api.MethodCaptureStart, "LIMIT_REACHED"), "max_interfaces")
	assert.Contains(t, nextStep(api.MethodFlowList, "LIMIT_REACHED"), "try again")
	assert.Contains(t, nextStep(api.RawMethod("foo"), "METHOD_NOT_FOUND"), "system info")
	assert.Contains(t, nextStep(api.MethodTraceStart, "INVALID_PARAMS"), "tcpdump's language")
	assert.Empty(t, nextStep(api.MethodFlowList, "OF_A_NEWER_DAEMON"))
}

// Whatever a daemon refuses, and why, dpctl says what to do.
func TestEveryReasonHasANextStep(t *testing.T) {
	for _, reason := range []string{
		string(fault.NotFound), string(fault.AlreadyActive), string(fault.NotActive), string(fault.LimitReached),
		string(fault.NotSupported), string(fault.RuleRejected), string(fault.RollbackFailed),
		string(fault.PermissionDenied), string(fault.AlreadyExists), string(fault.InvalidParams),
		api.ReasonParseError, api.ReasonInvalidRequest, api.ReasonMethodNotFound, api.ReasonInternalError,
		api.ReasonTimedOut,
	} {
		for _, m := range api.Methods {
			assert.NotEmpty(t, nextStep(m, reason), "%s of %s", reason, m.Name())
		}
	}
}

// Each step names commands that exist, for methods that exist.
func TestNextStepsExist(t *testing.T) {
	known := map[string]bool{"": true}
	for _, m := range api.Methods {
		group, _, _ := strings.Cut(m.Name(), ".")
		known[group], known[m.Name()] = true, true
	}
	for reason, steps := range nextSteps {
		for method, step := range steps {
			assert.True(t, known[method], "%s of %s", method, reason)
			for _, part := range strings.Split(step, "dpctl ")[1:] {
				words := strings.Fields(part)
				if words[0] == "is" || len(words) < 2 { // the program itself
					continue
				}
				cmd, _, err := newRoot().Find(words[:2])
				assert.NoError(t, err, step)
				assert.Equal(t, strings.TrimRight(words[1], ";,:"), cmd.Name(), step)
			}
		}
	}
}
