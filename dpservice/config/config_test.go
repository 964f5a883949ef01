// SPDX-License-Identifier: Apache-2.0

package config

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const demo = `
eal: ["--no-huge", "-m", "512", "--no-pci", "-l", "0,1", "-d", "build/librte_net_eswitch.so",
      "--vdev=net_eswitch0,pf0=net_af_packet0"]
ports: {pf0: net_eswitch0, pf1: net_eswitch0_pf1, vfs: "net_eswitch0_representor_vf*"}
underlay: {ip: "fc00:1::1", router_mac: auto}      # or a MAC
offload: true
socket: /run/dpservice/dpservice.sock
`

// run loads the configuration from a file with this text, these arguments and this environment.
func run(t *testing.T, text string, args []string, env map[string]string) (Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("dpservice", pflag.ContinueOnError)
	AddFlags(flags)
	if text != "" {
		name := filepath.Join(t.TempDir(), "dpservice.yaml")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		args = append([]string{"--config", name}, args...)
	}
	require.NoError(t, flags.Parse(args))
	return Load(flags, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func TestDemoFile(t *testing.T) {
	cfg, err := run(t, demo, nil, nil)
	require.NoError(t, err)
	want := Default()
	want.EAL = []string{"--no-huge", "-m", "512", "--no-pci", "-l", "0,1", "-d", "build/librte_net_eswitch.so",
		"--vdev=net_eswitch0,pf0=net_af_packet0"}
	want.Ports = Ports{PF0: "net_eswitch0", PF1: "net_eswitch0_pf1", VFs: Patterns{"net_eswitch0_representor_vf*"}}
	want.Underlay.IP = netip.MustParseAddr("fc00:1::1")
	assert.Equal(t, want, cfg)
}

func TestFlagsOverEnvironmentOverFile(t *testing.T) {
	env := map[string]string{
		"DPSERVICE_SOCKET": "/env.sock", "DPSERVICE_FLOW_TIMEOUT": "7s", "DPSERVICE_EAL": "--no-huge  -m 64",
	}
	cfg, err := run(t, demo, []string{"--socket=/flag.sock", "--offload=false", "--vfs=a,b*", "--log-level=debug",
		"--router-mac=02:00:00:00:00:01"}, env)
	require.NoError(t, err)
	assert.Equal(t, "/flag.sock", cfg.Socket)
	assert.Equal(t, 7*time.Second, cfg.Flows.Timeout)
	assert.Equal(t, []string{"--no-huge", "-m", "64"}, cfg.EAL)
	assert.False(t, cfg.Offload)
	assert.Equal(t, Patterns{"a", "b*"}, cfg.Ports.VFs)
	assert.Equal(t, slog.LevelDebug, cfg.LogLevel)
	assert.Equal(t, RouterMAC{2, 0, 0, 0, 0, 1}, cfg.Underlay.RouterMAC)
}

func TestWithoutFile(t *testing.T) {
	cfg, err := run(t, "", nil, map[string]string{"DPSERVICE_PF0": "p0", "DPSERVICE_UNDERLAY_IP": "fd00::1"})
	require.NoError(t, err)
	assert.Equal(t, "p0", cfg.Ports.PF0)
}

func TestWholeFile(t *testing.T) {
	cfg, err := run(t, demo+`
flows: {capacity: 1000, max_offload: 10, timeout: 2s, timeouts: {tcp_new: 3s, tcp_established: 4s, tcp_closing: 5s, udp: 6s, icmp: 7s, other: 8s}}
guests: {dns: ["10.0.0.53", "fd00::53"], mtu: 1400, lease_time: 1h}
slow_path: {rate: 50, burst: 5}
mbufs: 4096
mbuf_size: 9000
metrics: "[::1]:9464"
log_level: warn
`, nil, nil)
	require.NoError(t, err)
	assert.Equal(t, Flows{
		Capacity: 1000, MaxOffload: 10, Timeout: 2 * time.Second,
		Timeouts: Timeouts{
			TCPNew: 3 * time.Second, TCPEstablished: 4 * time.Second, TCPClosing: 5 * time.Second,
			UDP: 6 * time.Second, ICMP: 7 * time.Second, Other: 8 * time.Second,
		},
	}, cfg.Flows)
	dns := []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("fd00::53")}
	assert.Equal(t, Guests{DNS: dns, MTU: 1400, LeaseTime: time.Hour}, cfg.Guests)
	assert.Equal(t, SlowPath{Rate: 50, Burst: 5}, cfg.SlowPath)
	assert.Equal(t, 4096, cfg.Mbufs)
	assert.Equal(t, 9000, cfg.MbufSize)
	assert.Equal(t, Listen{"tcp", "[::1]:9464"}, cfg.Metrics)
	assert.Equal(t, slog.LevelWarn, cfg.LogLevel)
}

func TestMetricsAddress(t *testing.T) {
	for text, want := range map[string]Listen{
		"unix:/run/dpservice/metrics.sock": {"unix", "/run/dpservice/metrics.sock"},
		"127.0.0.1:9464":                   {"tcp", "127.0.0.1:9464"},
		"127.8.8.8:1":                      {"tcp", "127.8.8.8:1"},
		"[::1]:65535":                      {"tcp", "[::1]:65535"},
	} {
		cfg, err := run(t, demo, []string{"--metrics=" + text}, nil)
		require.NoError(t, err)
		assert.Equal(t, want, cfg.Metrics)
	}
}

func TestListOfPatterns(t *testing.T) {
	var cfg Config
	require.NoError(t, parse([]byte(`ports: {vfs: [a, "b*"]}`), &cfg))
	assert.Equal(t, Patterns{"a", "b*"}, cfg.Ports.VFs)
}

func TestErrorsNameTheCulprit(t *testing.T) {
	tests := map[string]struct {
		text string
		args []string
		env  map[string]string
		want string
	}{
		"unknown key":        {text: demo + "sockets: x\n", want: `unknown field "sockets"`},
		"unknown nested key": {text: "ports: {pf2: x}\n", want: `unknown field "pf2"`},
		"not yaml":           {text: "ports: [\n", want: "dpservice.yaml: [1:"},
		"no such file":       {args: []string{"--config=/nonexistent/x.yaml"}, want: "/nonexistent/x.yaml"},
		"no such file, env":  {env: map[string]string{"DPSERVICE_CONFIG": "/nonexistent/y.yaml"}, want: "/nonexistent/y.yaml"},
		"no uplink":          {text: "underlay: {ip: \"fd00::1\"}\n", want: "ports.pf0"},
		"ipv4 underlay":      {text: demo, args: []string{"--underlay-ip=10.0.0.1"}, want: "underlay.ip"},
		"bad address":        {text: demo, args: []string{"--underlay-ip=x"}, want: "--underlay-ip"},
		"multicast router":   {text: demo, args: []string{"--router-mac=33:33:00:00:00:01"}, want: "--router-mac"},
		"bad environment":    {text: demo, env: map[string]string{"DPSERVICE_MBUFS": "x"}, want: "DPSERVICE_MBUFS"},
		"bad timeout":        {text: demo, args: []string{"--flow-timeout=1500ms"}, want: "flows.timeout"},
		"bad UDP timeout":    {text: demo, args: []string{"--flow-timeout-udp=999ms"}, want: "flows.timeouts.udp"},
		"long timeout":       {text: demo, args: []string{"--flow-timeout-tcp-established=25h"}, want: "flows.timeouts.tcp_established"},
		"bad pattern":        {text: demo, args: []string{"--vfs=["}, want: "ports.vfs"},
		"no name server":     {text: demo, args: []string{"--guest-dns=x"}, want: "--guest-dns"},
		"multicast DNS":      {text: demo, args: []string{"--guest-dns=10.0.0.1,224.0.0.1"}, want: "guests.dns"},
		"too many DNS":       {text: demo, args: []string{"--guest-dns=10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4"}, want: "guests.dns"},
		"small MTU":          {text: demo, args: []string{"--guest-mtu=1000"}, want: "guests.mtu"},
		"short lease":        {text: demo, args: []string{"--guest-lease-time=1s"}, want: "guests.lease_time"},
		"no rate":            {text: demo, args: []string{"--slow-path-rate=0"}, want: "slow_path.rate"},
		"large burst":        {text: demo, args: []string{"--slow-path-burst=1025"}, want: "slow_path.burst"},
		"no mbufs":           {text: demo, args: []string{"--mbufs=1"}, want: "mbufs"},
		"huge mbufs":         {text: demo, args: []string{"--mbuf-size=65408"}, want: "mbuf_size"},
		"no capacity":        {text: demo, args: []string{"--flow-capacity=0"}, want: "flows.capacity"},
		"bad offload":        {text: demo, args: []string{"--offload=maybe"}, want: "--offload"},
		"metrics for all":    {text: demo + "metrics: 0.0.0.0:9464\n", want: `"0.0.0.0:9464" is not a loopback address`},
		"metrics for others": {text: demo, args: []string{"--metrics=192.0.2.1:9464"}, want: "is not a loopback address"},
		"metrics at a name":  {text: demo, args: []string{"--metrics=localhost:9464"}, want: "neither unix:/PATH nor"},
		"metrics at no port": {text: demo, args: []string{"--metrics=[::1]:0"}, want: "has no port"},
		"metrics in no dir":  {text: demo, env: map[string]string{"DPSERVICE_METRICS": "unix:x.sock"}, want: "begins with a slash"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, tt.text, tt.args, tt.env)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}
