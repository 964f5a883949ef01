// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/wire"
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
	environ := []string{"PATH=/bin", "DPLAB_X=1"}
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	return Load(defaults(), flags, environ)
}

// defaults returns a whole configuration: Default, and a socket.
func defaults() Config {
	cfg := Default()
	cfg.Socket = "/run/dpservice/dpservice.sock"
	return cfg
}

func TestDemoFile(t *testing.T) {
	cfg, err := run(t, demo, nil, nil)
	require.NoError(t, err)
	want := defaults()
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
	assert.Equal(t, wire.MAC{2, 0, 0, 0, 0, 1}, cfg.Underlay.RouterMAC)
}

func TestWithoutFile(t *testing.T) {
	cfg, err := run(t, "", nil, map[string]string{"DPSERVICE_PF0": "p0", "DPSERVICE_UNDERLAY_IP": "fd00::1"})
	require.NoError(t, err)
	assert.Equal(t, "p0", cfg.Ports.PF0)
}

func TestWholeFile(t *testing.T) {
	cfg, err := run(t, demo+`
flows: {capacity: 1000, max_offload: 10, timeout: 2s,
  timeouts: {tcp_new: 3s, tcp_established: 4s, tcp_closing: 5s, udp: 6s, icmp: 7s, other: 8s}}
guests: {dns: ["10.0.0.53", "fd00::53"], mtu: 1400, lease_time: 1h, gateway_prefix: "fd99:1::/96"}
slow_path: {rate: 50, burst: 5}
rpc: {max_clients: 5, max_clients_per_user: 2, idle_timeout: 9s, request_timeout: 1500ms}
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
	assert.Equal(t, Guests{DNS: dns, MTU: 1400, LeaseTime: time.Hour, GatewayPrefix: netip.MustParsePrefix("fd99:1::/96")},
		cfg.Guests)
	assert.Equal(t, SlowPath{Rate: 50, Burst: 5}, cfg.SlowPath)
	assert.Equal(t, RPC{MaxClients: 5, MaxClientsPerUser: 2, IdleTimeout: 9 * time.Second,
		RequestTimeout: 1500 * time.Millisecond}, cfg.RPC)
	assert.Equal(t, 4096, cfg.Mbufs)
	assert.Equal(t, 9000, cfg.MbufSize)
	assert.Equal(t, Listen{"tcp", "[::1]:9464"}, cfg.Metrics)
	assert.Equal(t, slog.LevelWarn, cfg.LogLevel)
}

func TestEmptyKeepsTheDefaults(t *testing.T) {
	for _, text := range []string{"\n", "# nothing\n", "---\n", "{}\n", "flows:\ncapture: {}\nunderlay: # nothing\n",
		"flows:\n  timeouts:\n"} {
		cfg := Default()
		require.NoError(t, parse([]byte(text), &cfg), text)
		assert.Equal(t, Default(), cfg, text)
	}
}

// TestOthersCannotWriteTheFile has a file that somebody else could have written, or put into its place.
func TestOthersCannotWriteTheFile(t *testing.T) {
	mode := func(mode os.FileMode) func(string) error {
		return func(name string) error { return os.Chmod(name, mode) }
	}
	folder := func(mode os.FileMode) func(string) error {
		return func(name string) error { return os.Chmod(filepath.Dir(name), mode) }
	}
	for name, tt := range map[string]struct {
		change func(name string) error
		want   string // empty: it is read
	}{
		"private":             {mode(0o600), ""},
		"readable":            {mode(0o644), ""},
		"writable to a group": {mode(0o664), "others can write to"},
		"writable to all":     {mode(0o602), "others can write to"},
		"folder of a group":   {folder(0o770), "others can write to"},
		"sticky folder":       {folder(0o777 | os.ModeSticky), ""},
		"of somebody else":    {func(name string) error { return os.Chown(name, 4243, 0) }, "belongs to user 4243"},
		"linked from a folder of all": {func(name string) error {
			dir := filepath.Join(filepath.Dir(name), "all")
			link := filepath.Join(dir, "x.yaml")
			return errors.Join(os.Rename(name, name+".real"), os.Mkdir(dir, 0o700), os.Symlink(name+".real", link),
				os.Symlink(link, name), os.Chmod(dir, 0o777))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "dpservice.yaml")
			require.NoError(t, os.WriteFile(file, []byte(demo), 0o600))
			require.NoError(t, os.Chmod(filepath.Dir(file), 0o755))
			require.NoError(t, tt.change(file))
			cfg := Default()
			err := load(file, &cfg)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, filepath.Dir(file))
		})
	}
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
		"no such file, env": {env: map[string]string{"DPSERVICE_CONFIG": "/nonexistent/y.yaml"},
			want: "/nonexistent/y.yaml"},
		"no uplink":        {text: "underlay: {ip: \"fd00::1\"}\n", want: "ports.pf0"},
		"ipv4 underlay":    {text: demo, args: []string{"--underlay-ip=10.0.0.1"}, want: "underlay.ip"},
		"bad address":      {text: demo, args: []string{"--underlay-ip=x"}, want: "--underlay-ip"},
		"multicast router": {text: demo, args: []string{"--router-mac=33:33:00:00:00:01"}, want: "--router-mac"},
		"bad environment":  {text: demo, env: map[string]string{"DPSERVICE_MBUFS": "x"}, want: "DPSERVICE_MBUFS"},
		"bad timeout":      {text: demo, args: []string{"--flow-timeout=1500ms"}, want: "flows.timeout"},
		"bad UDP timeout":  {text: demo, args: []string{"--flow-timeout-udp=999ms"}, want: "flows.timeouts.udp"},
		"long timeout": {text: demo, args: []string{"--flow-timeout-tcp-established=25h"},
			want: "flows.timeouts.tcp_established"},
		"bad pattern":      {text: demo, args: []string{"--vfs=["}, want: "ports.vfs"},
		"gateway, no room": {text: demo, args: []string{"--guest-gateway-prefix=fd99::/97"}, want: "guests.gateway_prefix"},
		"gateway, host bits": {text: demo, args: []string{"--guest-gateway-prefix=fd99::1/64"},
			want: "guests.gateway_prefix"},
		"gateway, local": {text: demo, args: []string{"--guest-gateway-prefix=fe80::/64"}, want: "guests.gateway_prefix"},
		"gateway, IPv4": {text: demo, args: []string{"--guest-gateway-prefix=10.0.0.0/8"},
			want: "guests.gateway_prefix"},
		"gateway, no prefix": {text: demo, args: []string{"--guest-gateway-prefix=fd99::1"}, want: "--guest-gateway-prefix"},
		"no name server":     {text: demo, args: []string{"--guest-dns=x"}, want: "--guest-dns"},
		"multicast DNS":      {text: demo, args: []string{"--guest-dns=10.0.0.1,224.0.0.1"}, want: "guests.dns"},
		"too many DNS": {text: demo, args: []string{"--guest-dns=10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4"},
			want: "guests.dns"},
		"small MTU":       {text: demo, args: []string{"--guest-mtu=1000"}, want: "guests.mtu"},
		"short lease":     {text: demo, args: []string{"--guest-lease-time=1s"}, want: "guests.lease_time"},
		"VNI of 0":        {text: demo, args: []string{"--unchecked-vnis=100,0"}, want: "underlay.unchecked_vnis"},
		"large VNI":       {text: demo, args: []string{"--unchecked-vnis=16777216"}, want: "underlay.unchecked_vnis"},
		"no VNI":          {text: demo, args: []string{"--unchecked-vnis=a"}, want: "--unchecked-vnis"},
		"no rate":         {text: demo, args: []string{"--slow-path-rate=0"}, want: "slow_path.rate"},
		"large burst":     {text: demo, args: []string{"--slow-path-burst=1025"}, want: "slow_path.burst"},
		"no mbufs":        {text: demo, args: []string{"--mbufs=1"}, want: "mbufs"},
		"huge mbufs":      {text: demo, args: []string{"--mbuf-size=65408"}, want: "mbuf_size"},
		"no capacity":     {text: demo, args: []string{"--flow-capacity=0"}, want: "flows.capacity"},
		"huge capacity":   {text: demo, args: []string{"--flow-capacity=16777217"}, want: "flows.capacity"},
		"huge offload":    {text: demo, args: []string{"--flow-max-offload=4294967297"}, want: "flows.max_offload"},
		"too many mbufs":  {text: demo + "mbufs: 4294967296\n", want: "mbufs 4294967296 is not in"},
		"too large mbufs": {text: demo + "mbufs: 16777216\nmbuf_size: 65407\n", want: "mbufs 16777216 of mbuf_size 65407"},
		"beyond int":      {text: demo + "mbufs: 99999999999999999999\n", want: "mbufs"},
		"fraction":        {text: demo + "mbufs: 4096.5\n", want: "mbufs: 4096.5 is not a whole number"},
		"nested fraction": {text: demo + "capture:\n  max_rules: 1.5\n",
			want: "capture.max_rules: 1.5 is not a whole number"},
		"aliased fraction":    {text: demo + "mbufs: &x 4096.5\nflows: {capacity: *x}\n", want: "flows.capacity: 4096.5"},
		"infinite":            {text: demo + "flows: {capacity: .inf}\n", want: "flows.capacity"},
		"fraction of time":    {text: demo + "rpc: {idle_timeout: 1.5}\n", want: "rpc.idle_timeout: 1.5 is not"},
		"fraction by flag":    {text: demo, args: []string{"--mbufs=4096.5"}, want: "--mbufs"},
		"access names nobody": {text: demo + "access: [{allow: [read]}]\n", want: "access[0]: names nobody"},
		"access limit without value": {text: demo + "access:\n- uids: [1]\n  allow: [captures]\n  captures: {vnis: }\n",
			want: "access[0].captures.vnis has no value"},
		"access limits without value": {text: demo + "access:\n- uids: [1]\n  allow: [captures]\n  captures:\n",
			want: "access[0].captures has no value"},
		"access rule without value": {text: demo + "access:\n-\n", want: "access[0] has no value"},
		"access key":                {text: demo + "access: [{uids: [1], allow: [captures], captures: {sink: []}}]\n", want: "sink"},
		"access fraction": {text: demo + "access: [{uids: [1.5], allow: [read]}]\n",
			want: "access[0].uids[0]: 1.5 is not a whole number"},
		"access prefix":     {text: demo + "access: [{uids: [1], allow: [captures], captures: {sinks: [x]}}]\n", want: "x"},
		"audit":             {text: demo + "audit: audit.json\n", want: `audit "audit.json" is neither "journal" nor the path`},
		"key without value": {text: demo + "mbufs:\n", want: "mbufs has no value"},
		"two documents":     {text: demo + "---\nmbufs: 4096\n", want: "more than one document"},
		"no mapping":        {text: "42\n", want: "dpservice.yaml: "},
		"no section":        {text: demo + "flows: 1\n", want: "flows"},
		"zero router":       {text: demo, args: []string{"--router-mac=00:00:00:00:00:00"}, want: "underlay.router_mac"},
		"zero router, file": {text: "underlay: {router_mac: \"00:00:00:00:00:00\"}\n", want: "underlay.router_mac"},
		"long router": {text: demo, args: []string{"--router-mac=02:00:00:00:00:00:00:01"},
			want: "underlay.router_mac"},
		"relative socket": {text: demo, args: []string{"--socket=run/x.sock"},
			want: `socket "run/x.sock": the path of a unix socket begins with a slash`},
		"relative state": {text: demo, args: []string{"--state=var/lib"}, want: "state"},
		"no socket":      {text: demo, args: []string{"--socket="}, want: "socket"},
		"long socket": {text: demo, args: []string{"--socket=/" + strings.Repeat("x", 107)},
			want: "at most 107 bytes"},
		"socket of a folder": {text: demo, args: []string{"--socket=/run/"}, want: "socket"},
		"long metrics":       {text: demo, args: []string{"--metrics=unix:/" + strings.Repeat("x", 107)}, want: "metrics"},
		"unknown variable":   {text: demo, env: map[string]string{"DPSERVICE_SOKET": "/x"}, want: "DPSERVICE_SOKET"},
		"variable, no value": {text: demo, env: map[string]string{"DPSERVICE_MBUF": ""}, want: "DPSERVICE_MBUF"},
		"no clients":         {text: demo, args: []string{"--rpc-max-clients=0"}, want: "rpc.max_clients"},
		"no clients of one":  {text: demo, args: []string{"--rpc-max-clients-per-user=0"}, want: "rpc.max_clients_per_user"},
		"idle for no time":   {text: demo, args: []string{"--rpc-idle-timeout=0s"}, want: "rpc.idle_timeout"},
		"no time to send":    {text: demo, args: []string{"--rpc-request-timeout=25h"}, want: "rpc.request_timeout"},
		"bad offload":        {text: demo, args: []string{"--offload=maybe"}, want: "--offload"},
		"metrics for all":    {text: demo + "metrics: 0.0.0.0:9464\n", want: `"0.0.0.0:9464" is not a loopback address`},
		"metrics for others": {text: demo, args: []string{"--metrics=192.0.2.1:9464"}, want: "is not a loopback address"},
		"metrics at a name":  {text: demo, args: []string{"--metrics=localhost:9464"}, want: "neither unix:/PATH nor"},
		"metrics at no port": {text: demo, args: []string{"--metrics=[::1]:0"}, want: "has no port"},
		"metrics in no dir": {text: demo, env: map[string]string{"DPSERVICE_METRICS": "unix:x.sock"},
			want: "begins with a slash"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, tt.text, tt.args, tt.env)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestChecksSource(t *testing.T) {
	assert.True(t, Default().Underlay.ChecksSource(100))
	assert.True(t, Underlay{CheckSource: true, UncheckedVNIs: []uint32{200, 300}}.ChecksSource(100))
	assert.False(t, Underlay{CheckSource: true, UncheckedVNIs: []uint32{200, 300}}.ChecksSource(300))
	assert.False(t, Underlay{UncheckedVNIs: []uint32{200}}.ChecksSource(100))
}
