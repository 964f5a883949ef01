// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/spec"
)

var update = flag.Bool("update", false, "write the golden files")

// The plans, as an operator reads them and replays them in testpmd.
func TestPlan(t *testing.T) {
	tests := map[string][]spec.Target{
		"vf":  {{VF: "vm-1"}},
		"pf0": {{PF: 0}},
		"all": {{VF: "vm-1"}, {VF: "vm-2"}, {PF: 0}},
	}
	for name, targets := range tests {
		t.Run(name, func(t *testing.T) {
			r := validRequest()
			r.DryRun, r.Targets = true, targets
			s, err := newNode(2).manager.Start(context.Background(), r)
			require.NoError(t, err)
			plan := strings.Join(s.Plan, "\n") + "\n"
			file := filepath.Join("testdata", "plan_"+name+".txt")
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(plan), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, string(want), plan)
		})
	}
}
