// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"dpservice/rpc/api"
)

func TestRateHistory(t *testing.T) {
	var h rateHistory
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	point := api.CaptureInterface{CaptureTarget: api.CaptureTarget{VF: "vm-1"}, Direction: "rx"}
	look := func(packets uint64) []any {
		now = now.Add(2 * time.Second)
		point.Packets, point.Bytes = packets, 125*packets
		h.look(now, api.CaptureStatusResult{Sessions: []api.CaptureSession{{Name: "a", Interfaces: []api.CaptureInterface{point}}}})
		return h.columns("a", point)
	}
	assert.Equal(t, []any{"", "", ""}, look(100), "there is no rate yet")
	assert.Equal(t, []any{"400", "400k", "█"}, look(900))
	assert.Equal(t, []any{"0", "0", "█ "}, look(900))
	assert.Equal(t, []any{"200", "200k", "█ ▅"}, look(1300))
	for n := range uint64(2 * maxBars) {
		look(1300 + 100*n)
	}
	assert.Len(t, []rune(h.columns("a", point)[2].(string)), maxBars)
	assert.Equal(t, []any{"0", "0"}, look(5)[:2], "a new session counts from the beginning")

	h.look(now, api.CaptureStatusResult{})
	assert.Equal(t, []any{"", "", ""}, h.columns("a", point), "it is gone")
}

func TestStatusShowsRates(t *testing.T) {
	status := api.CaptureStatusResult{Active: true, Sessions: []api.CaptureSession{{Name: "a", Interfaces: []api.CaptureInterface{
		{CaptureTarget: api.CaptureTarget{VF: "vm-1"}, Direction: "rx"},
	}}}}
	var once, watched bytes.Buffer
	writeStatus(&once, status, nil)
	writeStatus(&watched, status, &rateHistory{})
	assert.NotContains(t, once.String(), "PACKETS/S")
	assert.Contains(t, watched.String(), "PACKETS/S  BITS/S  RATE")
}

func TestStatusShowsWhatWaits(t *testing.T) {
	var out bytes.Buffer
	writeStatus(&out, api.CaptureStatusResult{Waiting: []api.CaptureSession{{
		Name: "lab", Packets: 30, Bytes: 3000, Warnings: []string{`not restored: no interface "vm-1"`},
		Interfaces: []api.CaptureInterface{{CaptureTarget: api.CaptureTarget{VF: "vm-1"}, Direction: "rx"},
			{CaptureTarget: api.CaptureTarget{VF: "vm-1"}, Direction: "tx"}},
	}}}, nil)
	assert.Equal(t, `no capture is active

Waiting to be restored:
CAPTURE  INTERFACES    PACKETS  BYTES  WHY
lab      vm-1,vm-1-tx  30       3000   not restored: no interface "vm-1"
`, out.String())
}
