// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkSocket reads small copies, which the socket receives in batches.
func BenchmarkSocket(b *testing.B) {
	s, err := listen(netip.AddrPortFrom(netip.IPv6Loopback(), 0), 1<<24, nil)
	require.NoError(b, err)
	defer s.close()
	c, err := net.Dial("udp6", s.conn.LocalAddr().String())
	require.NoError(b, err)
	defer func() { _ = c.Close() }()
	b.ReportAllocs()
	frame := make([]byte, 64)
	var d datagram
	for done := 0; done < b.N; {
		b.StopTimer()
		for range batchLen {
			_, err := c.Write(frame)
			require.NoError(b, err)
		}
		b.StartTimer()
		for range batchLen {
			ok, err := s.next(&d)
			require.NoError(b, err)
			require.True(b, ok)
			done++
		}
	}
}
