// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/wire"
)

func TestWriteNames(t *testing.T) {
	on := func(name string, label wire.Label) api.CaptureInterface {
		return api.CaptureInterface{CaptureTarget: api.CaptureTarget{VF: name}, Label: uint32(label)}
	}
	pf := 0
	var out bytes.Buffer
	require.NoError(t, writeNames(&out, "fc00:1::1", []api.CaptureSession{
		{Interfaces: []api.CaptureInterface{on("vm-1", 7), on("vm-1", wire.LabelTX+7), on("vm-2", wire.LabelTX+8)}},
		{Interfaces: []api.CaptureInterface{{CaptureTarget: api.CaptureTarget{PF: &pf}, Label: 5}, on("deleted", 7)}},
		{Interfaces: []api.CaptureInterface{on("vm-2", wire.DropLabel(8, 0)), on("vm-3", wire.DropLabel(9, 0))}},
	}))
	const want = "fc00:1::1/7=vm-1\nfc00:1::1/8=vm-2\nfc00:1::1/5=pf0\nfc00:1::1/9=vm-3\n"
	assert.Equal(t, want, out.String())

	names, err := parseNames(strings.Split(strings.TrimSpace(want), "\n"))
	require.NoError(t, err, "capture receive takes them")
	assert.Len(t, names, 4)
}
