// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/fault"
	"dpservice/rpc/api"
	"dpservice/rpc/server/servertest"
)

func TestTrace(t *testing.T) {
	fake := servertest.New()
	socket := servertest.Start(t, fake.Services())
	const verdict = "dropped: its source address is not the guest's own (drop_spoofed)"
	const nodes = "rx-net_eswitch0_representor_vf0 200 > classify_guest 30 > flow_lookup 90 > flow_route 300 > drop_spoofed 20 " +
		"(950 cycles since it was received)"

	r := dpctl(t, socket, "trace", "--interface=vm-1", "--filter=host 10.0.0.9", "--count=1", "--drops")
	require.Equal(t, exitDone, r.code, r.stderr)
	assert.Regexp(t, `^\d\d:\d\d:\d\d\.123456 guest IP 10\.0\.0\.9 > 10\.0\.0\.2, UDP 1 > 53, 42 bytes\n`, r.stdout)
	assert.Contains(t, r.stdout, "\n  "+verdict+"\n  "+nodes+"\n")
	assert.Contains(t, r.stderr, "tracing vm-1; Ctrl-C ends it\nwarning: packets that the NIC forwards by itself are not seen")
	assert.Contains(t, r.stderr, "warning: 3 packets were too many to be traced")
	assert.Equal(t, "vm-1", fake.Last().Trace.Interface)
	assert.Equal(t, "host 10.0.0.9", fake.Last().Trace.Filter)
	assert.True(t, fake.Last().Trace.Drops)
	assert.EqualValues(t, 1, fake.Last().Trace.Count)
	assert.Contains(t, fake.Last().Trace.Client, "dpctl (process ")

	r = dpctl(t, socket, "trace", "--interface=vm-1", "-o", "json")
	var p api.TracedPacket
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &p))
	assert.Equal(t, verdict, p.Verdict)

	file := filepath.Join(t.TempDir(), "trace.pcapng")
	r = dpctl(t, socket, "trace", "--interface=vm-1", "-w", file)
	require.Equal(t, exitDone, r.code, r.stderr)
	assert.Empty(t, r.stdout)
	out, err := exec.Command("tshark", "-r", file, "-Y", `frame.comment contains "drop_spoofed"`, "-T", "fields", "-e", "ip.src",
		"-e", "frame.interface_name").Output()
	require.NoError(t, err)
	assert.Equal(t, "10.0.0.9\tnet_eswitch0_representor_vf0\n", string(out))
}

func TestTraceRefused(t *testing.T) {
	fake := servertest.New()
	fake.Err = fault.New(fault.AlreadyActive, "vm-1", "dpctl (process 7) of root traces interface vm-1")
	socket := servertest.Start(t, fake.Services())
	r := dpctl(t, socket, "trace", "--interface=vm-1")
	assert.Equal(t, exitRefused, r.code)
	assert.Contains(t, r.stderr, "dpctl: dpctl (process 7) of root traces interface vm-1 (ALREADY_ACTIVE)\n")
	r = dpctl(t, socket, "trace", "--interface=vm-1", "-o", "yaml")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.stderr, "dpctl: dpctl trace shows text, or -o json\n")
}
