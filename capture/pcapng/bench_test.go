// SPDX-License-Identifier: Apache-2.0

package pcapng_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"dpservice/capture/pcapng"
)

// BenchmarkWriter writes the same packets with this package and with gopacket's writer of pcapng.
func BenchmarkWriter(b *testing.B) {
	for _, length := range []int{64, 1500} {
		data := make([]byte, length)
		at := time.Now()
		b.Run(fmt.Sprintf("own/%d", length), func(b *testing.B) {
			w := pcapng.NewWriter(io.Discard, pcapng.Section{})
			number := w.AddInterface(pcapng.Interface{Name: "vm-1"})
			b.SetBytes(int64(length))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Packet(number, at.UnixNano(), data, length); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("pcapgo/%d", length), func(b *testing.B) {
			w, err := pcapgo.NewNgWriterInterface(io.Discard,
				pcapgo.NgInterface{Name: "vm-1", LinkType: layers.LinkTypeEthernet},
				pcapgo.NgWriterOptions{})
			require.NoError(b, err)
			b.SetBytes(int64(length))
			b.ReportAllocs()
			info := gopacket.CaptureInfo{CaptureLength: length, Length: length, Timestamp: at}
			for b.Loop() {
				if err := w.WritePacket(info, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
