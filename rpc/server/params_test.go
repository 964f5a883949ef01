// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/fault"
	"dpservice/rpc/api"
)

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `{}`, `[]`, `1`, `{"interfaces":null}`, `{"interfaces":[null]}`, `{"interfaces":{"vf":1}}`,
		`{"sink_node_ip":"::1","udp_src_port":1,"udp_dst_port":2,"interfaces":[{"vf":"a"},{"pf":0}],"name":"x","dry_run":true}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 0 && (!json.Valid(data) || data[0] == ' ') {
			t.Skip("no JSON text that a stream would let through")
		}
		var p, again api.CaptureStartParams
		if err := decode(data, &p); err != nil {
			assert.True(t, fault.Is(err, fault.InvalidParams), err)
			return
		}
		text, err := json.Marshal(p)
		require.NoError(t, err)
		require.NoError(t, decode(text, &again))
		assert.Equal(t, p, again)
	})
}
