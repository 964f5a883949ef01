// SPDX-License-Identifier: Apache-2.0

package flowperf_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/flowperf"
	"dpservice/test/report"
	"dpservice/test/topology"
)

func TestMain(m *testing.M) { os.Exit(topology.Main(m)) }

const rules = 100_000

// shapes are the rules that the program creates: it ends with an error when a single one cannot be created or
// destroyed.
var shapes = []struct {
	name  string
	group int
	rule  []string
}{
	{"transfer jump", 1, []string{"--transfer", "--group=1", "--ether", "--ipv4", "--count", "--jump"}},
	{"transfer drop in the root", 0, []string{"--transfer", "--group=0", "--ether", "--ipv6", "--count", "--drop"}},
	{"ingress queue", 0, []string{"--ingress", "--group=0", "--ether", "--ipv4", "--udp", "--count", "--queue"}},
	{
		"transfer rewrite", 1,
		[]string{"--transfer", "--group=1", "--ether", "--ipv4", "--tcp", "--set-src-mac", "--set-dst-mac", "--dec-ttl",
			"--count", "--port-id=0"},
	},
}

func TestFlowPerfInsertsAndDeletes(t *testing.T) {
	in, err := flowperf.Install(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, in.Remove()) })
	for _, tt := range shapes {
		t.Run(tt.name, func(t *testing.T) {
			result, err := in.Measure(t.Context(), flowperf.Run{Rules: rules, Rule: tt.rule, Delete: true})
			require.NoError(t, err)
			report.Printf(t, "dpdk-test-flow-perf, %s: %d rules inserted in %v, %d deleted in %v", tt.name,
				result.Inserted, result.Insertion, result.Deleted, result.Deletion)
			complete(t, result, rules, tt.group)
		})
	}
}

// The driver does not pass on that a rule could not be destroyed: only creation is certain here.
func TestFlowPerfOnTheDriver(t *testing.T) {
	const rules = 20_000
	for _, card := range []string{"cx5", "cx6dx", "cx7"} {
		inserted, insertion := 0, time.Duration(0)
		for _, tt := range shapes {
			t.Run(card+" "+tt.name, func(t *testing.T) {
				result, err := flowperf.MeasureOnCard(t.Context(), card, flowperf.Run{Rules: rules, Rule: tt.rule, Delete: true})
				require.NoError(t, err)
				complete(t, result, rules, tt.group)
				assert.NotContains(t, result.Output, "refused:", "the driver has asked for what the card does not know")
				inserted, insertion = inserted+result.Inserted, insertion+result.Insertion
			})
		}
		report.Printf(t, "dpdk-test-flow-perf, net_mlx5 as a %s: %d rules of %d shapes inserted in %v and deleted", card,
			inserted, len(shapes), insertion)
	}
}

// complete checks that the program has created and destroyed all rules, and that its figures fit together.
func complete(t *testing.T, result flowperf.Result, rules, group int) {
	t.Helper()
	assert.Equal(t, rules, result.Inserted)
	assert.Equal(t, rules+group, result.Deleted, "with the jump from group 0")
	assert.Regexp(t, fmt.Sprintf(`Rules Count per port: %d\n`, rules), result.Output)
	assert.NotRegexp(t, `(?i)flow can't be created|error in|error type`, result.Output)
	for what, took := range map[string]time.Duration{"insertion": result.Insertion, "deletion": result.Deletion} {
		assert.Positive(t, took, what)
		rate := regexp.MustCompile(`Core 0 :: Rules ` + what + ` rate -> ([0-9.]+) K`).FindStringSubmatch(result.Output)
		require.NotNil(t, rate, what)
		printed, err := strconv.ParseFloat(rate[1], 64)
		require.NoError(t, err)
		assert.InEpsilon(t, float64(rules)/took.Seconds()/1000, printed, 0.01, "%s rate in thousands per second", what)
	}
}

// The rules differ in their source addresses, 0.0.0.0 and up: those whose packets arrive count them, the others
// nothing.
func TestFlowPerfCounts(t *testing.T) {
	const busy, frameSize = 64, 60
	in, err := flowperf.Install(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, in.Remove()) })
	result, err := in.Measure(t.Context(), flowperf.Run{
		Rules: rules, Rule: []string{"--transfer", "--group=1", "--ether", "--ipv4", "--count", "--drop"}, Delete: true,
		Packets: busy,
	})
	require.NoError(t, err)
	assert.Equal(t, rules+1, result.Asked)
	assert.Equal(t, 1, result.Uncounted, "the jump from group 0 does not count")
	assert.Equal(t, busy, result.Busy)
	assert.Equal(t, busy, result.Packets)
	assert.Equal(t, busy*frameSize, result.Bytes)
	report.Printf(t, "dpdk-test-flow-perf: %d rules asked what they have counted: %d packets, in %d of them",
		result.Asked-result.Uncounted, result.Packets, result.Busy)
}
