// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"dpservice/rpc/api"
)

func TestNextStep(t *testing.T) {
	assert.Contains(t, nextStep(api.MethodCaptureStop, "NOT_FOUND"), "capture status")
	assert.Contains(t, nextStep(api.MethodInterfaceGet, "NOT_FOUND"), "interface list")
	assert.Contains(t, nextStep(api.MethodCaptureStart, "LIMIT_REACHED"), "max_interfaces")
	assert.Contains(t, nextStep(api.MethodFlowList, "LIMIT_REACHED"), "try again")
	assert.Contains(t, nextStep(api.RawMethod("foo"), "METHOD_NOT_FOUND"), "system info")
	assert.Empty(t, nextStep(api.MethodFlowList, "INVALID_PARAMS"), "the message says it")
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
