// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// The exit codes of dpctl.
const (
	exitDone     = 0
	exitRefused  = 1
	exitUsage    = 2
	exitNoDaemon = 3
)

// TestDpctlExitCodes provokes every error of the error table at the command line. The exit code says whose fault it is,
// stderr says what is wrong, and the NIC's rules do not change.
func TestDpctlExitCodes(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 2)
	d, sink := b.daemons[0], b.net.SinkIP.String()
	run := func(t *testing.T, code int, says string, args ...string) {
		t.Helper()
		r, err := d.Dpctl(b.ctx, args...)
		require.NoError(t, err)
		require.Equal(t, code, r.Code, "dpctl %v: %s%s", args, r.Stdout, r.Stderr)
		require.Contains(t, r.Stderr, says)
		if code != exitDone {
			require.Empty(t, r.Stdout)
			require.NotEmpty(t, r.Stderr)
		}
	}
	device := func(id string, vf int) string {
		return fmt.Sprintf(`{"id":%q,"device":%q,"vni":100,"ipv4":"10.100.0.9"}`, id, b.net.NIC.VF(vf))
	}
	var seventeen []string
	for i := range 17 {
		seventeen = append(seventeen, fmt.Sprintf("vm-%d", i+1))
	}
	for name, test := range map[string]struct {
		code int
		says string
		args []string
	}{
		"unknown command":    {exitUsage, "sing", []string{"sing"}},
		"unknown flag":       {exitUsage, "--loud", []string{"capture", "status", "--loud"}},
		"missing flag":       {exitUsage, "sink-node-ip", []string{"capture", "start", "--vf=vm-1"}},
		"stop without start": {exitRefused, "NOT_ACTIVE", []string{"capture", "stop"}},
		"unknown interface":  {exitRefused, "NOT_FOUND", captureStart(sink, "--vf=vm-1,vm-9")},
		"the culprit's name": {exitRefused, "vm-9", captureStart(sink, "--vf=vm-1,vm-9")},
		"TX of an uplink":    {exitRefused, "NOT_SUPPORTED", captureStart(sink, "--vf=vm-1", "--pf=0", "--direction=tx")},
		"no such direction":  {exitRefused, "INVALID_PARAMS", captureStart(sink, "--vf=vm-1", "--direction=up")},
		"PF2":                {exitRefused, "NOT_FOUND", captureStart(sink, "--pf=2")},
		"17 interfaces":      {exitRefused, "LIMIT_REACHED", captureStart(sink, "--vf="+strings.Join(seventeen, ","))},
		"interface twice":    {exitRefused, "vm-1", captureStart(sink, "--vf=vm-1,vm-1")},
		"IPv4 sink":          {exitRefused, "IPv6", captureStart("192.0.2.1", "--vf=vm-1")},
		"multicast sink":     {exitRefused, "multicast", captureStart("ff0e::1", "--vf=vm-1")},
		"link-local sink":    {exitRefused, "link-local", captureStart("fe80::1", "--vf=vm-1")},
		"unspecified sink":   {exitRefused, "unspecified", captureStart("::", "--vf=vm-1")},
		"unknown method":     {exitRefused, "METHOD_NOT_FOUND", []string{"rpc", "capture.pause"}},
		"interface exists":   {exitRefused, "ALREADY_EXISTS", []string{"rpc", "interface.create", device("vm-1", 0)}},
		"no such device":     {exitRefused, "NOT_FOUND", []string{"rpc", "interface.create", device("vm-8", 8)}},
		"no such route": {exitRefused, "NOT_FOUND",
			[]string{"rpc", "route.delete", `{"vni":100,"prefix":"10.9.0.0/16"}`}},
		"no such interface":   {exitRefused, "NOT_FOUND", []string{"rpc", "interface.delete", `{"id":"vm-9"}`}},
		"a status is no fail": {exitDone, "", []string{"capture", "status"}},
	} {
		t.Run(name, func(t *testing.T) {
			rules := b.rules()
			run(t, test.code, test.says, test.args...)
			require.Equal(t, rules, b.rules(), "an error changes nothing")
		})
	}

	t.Run("second start", func(t *testing.T) {
		run(t, exitDone, "", captureStart(sink, "--vf=vm-1")...)
		rules := b.rules()
		run(t, exitRefused, "ALREADY_ACTIVE", captureStart(sink, "--vf=vm-2")...)
		require.Equal(t, rules, b.rules())
		run(t, exitDone, "", "capture", "stop")
		run(t, exitRefused, "NOT_ACTIVE", "capture", "stop")
	})
	t.Run("interface deleted", func(t *testing.T) {
		run(t, exitDone, "", "rpc", "interface.delete", `{"id":"vm-2"}`)
		run(t, exitRefused, "NOT_FOUND", captureStart(sink, "--vf=vm-2")...)
	})
	t.Run("no daemon", func(t *testing.T) {
		require.NoError(t, d.Stop(b.ctx))
		run(t, exitNoDaemon, d.Socket, "capture", "status")
	})
}
