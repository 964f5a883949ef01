// SPDX-License-Identifier: Apache-2.0

package filter_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"dpservice/capture/filter"
	"dpservice/capture/filter/filtertest"
	"dpservice/test/report"
)

// Whatever the filter and the packet, rules decide like libpcap, but for what the documentation names.
func TestFiltersDecideLikeLibpcap(t *testing.T) {
	const filters, packets, maxRules = 100, 900, 256
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	compared, refused, accepted, rules := 0, 0, 0, 0
	for range filters {
		link := []filter.Link{filter.Ethernet, filter.Ethernet, filter.IP}[r.IntN(3)]
		text := filtertest.RandomFilter(r, link, 2)
		reference, err := filtertest.NewOracle(t, text, link)
		program, failed := filter.Compile(text, link, maxRules)
		if err != nil {
			// libpcap finds out that some expressions can never be true, and refuses them.
			require.ErrorContains(t, err, "expression rejects all packets", text)
			continue
		}
		if failed != nil {
			var e *filter.Error
			require.ErrorAs(t, failed, &e)
			require.NotEqual(t, filter.Syntax, e.Kind, "%s: %v", text, failed)
			refused++
			continue
		}
		rules += len(program.Rules)
		for range packets {
			p := filtertest.RandomPacket(r, link)
			if p.Unlike || len(program.Notes) > 0 && p.Hidden() {
				continue
			}
			want := reference.Accepts(t, p.Data)
			require.Equal(t, want, p.Decide(program), "%s\nseed %d\npacket %x\n%v", text, seed, p.Data, program.Rules)
			compared++
			if want {
				accepted++
			}
		}
	}
	require.Less(t, refused, filters/3)
	require.Greater(t, accepted, compared/20)
	require.Less(t, accepted, compared*19/20)
	report.Printf(t, "filters beside libpcap: %d, %d refused, %d packets compared, %d accepted, %d rules", filters, refused, compared, accepted, rules)
}
