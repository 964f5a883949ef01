// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// guestFlow is a rule as flow offload makes them.
func guestFlow() Rule {
	return Rule{
		Attr{Group: 2, Transfer: true},
		[]Item{
			RepresentedPort{Port: 1}, Eth{}, IPv4{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: Is[uint8](6)},
			TCP{SrcPort: Is[uint16](1024), DstPort: Is[uint16](80), Flags: Masked[uint8](0, 7)},
		},
		[]Action{
			RawDecap{Data: tunnelHeader[:14]}, RawEncap{Data: tunnelHeader}, DecTTL{}, Age{Timeout: 30, Context: 7}, Count{},
			ToRepresentedPort{Port: 0},
		},
		nil,
	}
}

func TestEncodingAllocatesNothing(t *testing.T) {
	r := guestFlow()
	e := newEncoder()
	defer e.free()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		e.buf = e.buf[:0]
		if err := e.rule(r); err != nil {
			t.Error(err)
		}
	}))
}

// BenchmarkCreate is all that Create costs besides ethdev and the driver: there is no such port.
func BenchmarkCreate(b *testing.B) {
	r := guestFlow()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Create(noPort, r); err == nil {
			b.Fatal("there is no such port")
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	r := guestFlow()
	e := newEncoder()
	defer e.free()
	b.ReportAllocs()
	for b.Loop() {
		e.buf = e.buf[:0]
		if err := e.rule(r); err != nil {
			b.Fatal(err)
		}
	}
}
