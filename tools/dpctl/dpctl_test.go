// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/fault"
	"dpservice/rpc/server/servertest"
)

var update = flag.Bool("update", false, "write the golden files")

// binary is the built dpctl.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dpctl")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "dpctl")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // DPDK cannot be linked without cgo
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	return m.Run()
}

type result struct {
	code           int
	stdout, stderr string
}

// dpctl runs the binary.
func dpctl(t *testing.T, socket string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "DPSERVICE_SOCKET="+socket)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// TestTranscript runs the commands of a golden file, which are the lines that begin with a $, and compares the output.
func TestTranscript(t *testing.T) {
	const file = "testdata/transcript.golden"
	socket := servertest.Start(t, servertest.New().Services())
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	var got strings.Builder
	for line := range strings.Lines(string(want)) {
		args, ok := strings.CutPrefix(line, "$ dpctl ")
		if !ok {
			continue
		}
		got.WriteString(line)
		r := dpctl(t, socket, strings.Fields(args)...)
		fmt.Fprintf(&got, "%s%s", r.stdout, r.stderr)
		if r.code != 0 {
			fmt.Fprintf(&got, "[exit code %d]\n", r.code)
		}
		got.WriteString("\n")
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o600))
	}
	assert.Equal(t, string(want), got.String(), "go test ./tools/dpctl -update writes the file anew")
}

// TestARefusedClientIsToldWhy opens as many connections as the daemon accepts.
func TestARefusedClientIsToldWhy(t *testing.T) {
	cfg := servertest.Config()
	cfg.MaxClients = 1
	socket := servertest.StartWith(t, servertest.New().Services(), cfg)
	for range 9 { // including the connections that are reserved for root
		conn, err := net.Dial("unix", socket)
		require.NoError(t, err)
		defer conn.Close()
		_, err = conn.Write([]byte("{")) // an incomplete request keeps the connection open
		require.NoError(t, err)
	}
	r := dpctl(t, socket, "capture", "stop")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "too many clients: 9 are connected already (LIMIT_REACHED)")
}

func TestExitCodes(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	start := func(flags ...string) []string {
		all := []string{"capture", "start", "--sink-node-ip=fc00:2::1", "--udp-src-port=3000", "--udp-dst-port=3010"}
		return append(all, flags...)
	}
	tests := map[string]struct {
		code   int
		args   []string
		stderr string
	}{
		"help":              {0, []string{"--help"}, ""},
		"help of a command": {0, []string{"help", "capture", "start"}, ""},
		"done":              {0, []string{"capture", "status"}, ""},
		"the daemon's no":   {1, []string{"capture", "stop"}, "dpctl: no capture is active (NOT_ACTIVE)\n"},
		"no such interface": {1, []string{"interface", "get", "x"},
			"dpctl: no interface \"x\" (NOT_FOUND)\n  interface: x\n"},
		"unknown method":   {1, []string{"rpc", "foo"}, "dpctl: no method \"foo\" (METHOD_NOT_FOUND)\n"},
		"no command":       {2, nil, "dpctl: dpctl needs a command\n"},
		"unknown command":  {2, []string{"foo"}, `dpctl: dpctl has no command "foo"`},
		"group only":       {2, []string{"capture"}, "dpctl: dpctl capture needs a command\n"},
		"unknown in group": {2, []string{"capture", "foo"}, `dpctl: dpctl capture has no command "foo"`},
		"unknown flag":     {2, []string{"port", "list", "--foo"}, "dpctl: unknown flag: --foo\n"},
		"too many arguments": {2, []string{"port", "list", "x"},
			"dpctl: unknown command \"x\" for \"dpctl port list\"\n"},
		"too few arguments": {2, []string{"interface", "get"}, "dpctl: accepts 1 arg(s), received 0\n"},
		"unknown format": {2, []string{"-o", "xml", "port", "list"},
			"dpctl: no output format \"xml\": want table, json, yaml, name\n"},
		"no names": {2, []string{"-o", "name", "system", "info"},
			"dpctl: dpctl system info has no names to show: use another -o\n"},
		"bad timeout":   {2, []string{"--timeout=0s", "port", "list"}, "dpctl: --timeout must be more than 0\n"},
		"missing flags": {2, []string{"capture", "start", "--pf=0"}, `dpctl: required flag(s) "sink-node-ip" not set`},
		"missing port": {2, []string{"capture", "start", "--pf=0", "--sink-node-ip=::1"},
			"dpctl: --udp-dst-port is required\n"},
		"no capture point": {2, start(), "dpctl: at least one of the flags in the group [vf vni all pf] is required\n"},
		"bad network":      {2, start("--vni=100,x"), `dpctl: invalid argument "100,x" for "--vni" flag: "x" is not the number`},
		"nothing live":     {2, []string{"capture", "live"}, "dpctl: name an interface, or select some by --vni or --all"},
		"shown by nobody": {2, []string{"capture", "live", "vm-1", "--show=less"},
			"dpctl: --show: want auto, tcpdump, tshark, plain\n"},
		"port out of range": {2, start("--pf=0", "--udp-dst-port=65536"),
			`dpctl: invalid argument "65536" for "--udp-dst-port" flag`},
		"parameters not in JSON": {2, []string{"rpc", "capture.stop", "{"}, "dpctl: the parameters are not valid JSON\n"},
		"no packet": {2, []string{"flow", "explain", "--interface=vm-1"},
			"dpctl: give the ID of a flow, as in dpctl flow list, or --interface and --proto of a packet\n"},
		"no ID": {2, []string{"flow", "explain", "x"}, "dpctl: \"x\" is not the ID of a flow: see dpctl flow list\n"},
		"an ID and more": {2, []string{"flow", "explain", "1", "--proto=tcp"},
			"dpctl: the ID says all of a flow: --proto does not go with it\n"},
		"negative limit":  {2, []string{"flow", "list", "--limit=-1"}, "dpctl: --limit must not be negative\n"},
		"top in a script": {2, []string{"top"}, "dpctl: dpctl top needs a terminal: use port stats"},
		"top as JSON":     {2, []string{"-o", "json", "top"}, "dpctl: dpctl top has one form only"},
		"top too often":   {2, []string{"top", "--interval=1ms"}, "dpctl: --interval must be at least 100ms\n"},
		"unknown shell": {2, []string{"completion", "tcsh"},
			`dpctl: invalid argument "tcsh" for "dpctl completion"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := dpctl(t, socket, tt.args...)
			assert.Equal(t, tt.code, r.code)
			assert.True(t, strings.HasPrefix(r.stderr, tt.stderr), r.stderr)
			assert.Equal(t, tt.code == exitDone, r.stderr == "", "stderr is for errors")
			assert.Equal(t, tt.code == exitDone, r.stdout != "", "stdout is for results")
			assert.Equal(t, tt.code == exitUsage, strings.Contains(r.stderr, "--help' for its usage"))
		})
	}
}

func TestNoDaemon(t *testing.T) {
	dir := servertest.SocketDir(t)
	for _, path := range []string{filepath.Join(dir, "none"), filepath.Join(dir, "file")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		r := dpctl(t, "", "--socket", path, "capture", "status")
		assert.Equal(t, exitNoDaemon, r.code)
		assert.Contains(t, r.stderr, "dpctl: no daemon at the socket "+path+"\n")
		assert.Empty(t, r.stdout)
	}
}

func TestRefusedRule(t *testing.T) {
	refusal := fault.New(fault.RuleRejected, "vm-1", "the NIC refused a rule; every port is as before")
	refusal.Rule, refusal.RTEFlowError, refusal.Errno = "group 1 transfer pattern eth / end", "action 0: sample", syscall.ENOTSUP
	fake := servertest.New()
	fake.Err = refusal
	socket := servertest.Start(t, fake.Services())
	r := dpctl(t, socket, "capture", "start", "--sink-node-ip=fc00:2::1", "--udp-src-port=1", "--udp-dst-port=2",
		"--vf=vm-1")
	assert.Equal(t, exitRefused, r.code)
	assert.Equal(t, `dpctl: the NIC refused a rule; every port is as before (RULE_REJECTED)
  interface: vm-1
  rule: group 1 transfer pattern eth / end
  rte_flow_error: action 0: sample
  errno: 95
  next: dpctl capture capabilities shows what this NIC takes; --dry-run tries without doing
`, r.stderr)
}

func TestManyFlows(t *testing.T) {
	fake := servertest.New()
	flow := fake.FlowTable[0]
	fake.FlowTable = nil
	for id := range uint64(2500) {
		flow.ID = id
		flow.VNI = uint32(id % 2)
		fake.FlowTable = append(fake.FlowTable, flow)
	}
	socket := servertest.Start(t, fake.Services())
	for limit, want := range map[string]int{"0": 1250, "1": 1, "1100": 1100, "3000": 1250} {
		r := dpctl(t, socket, "-o", "name", "flow", "list", "--vni=1", "--limit="+limit)
		assert.Len(t, strings.Fields(r.stdout), want)
	}
	assert.JSONEq(t, `{"flows":[]}`, dpctl(t, socket, "-o", "json", "flow", "list", "--vni=2").stdout)
}

func TestCompletion(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	for _, id := range []string{"vm-1", "vm-2"} {
		r := dpctl(t, socket, "interface", "create", id, "--device=x", "--vni=1", "--ipv4=10.0.0.1")
		require.Zero(t, r.code, r.stderr)
	}
	words := func(args ...string) []string {
		r := dpctl(t, socket, append([]string{"__complete"}, args...)...)
		lines := strings.Fields(r.stdout)
		return lines[:len(lines)-1] // the last line is the directive
	}
	assert.Equal(t, []string{"vm-1", "vm-2"}, words("interface", "delete", ""))
	assert.Empty(t, words("interface", "delete", "vm-1", ""))
	assert.Equal(t, []string{"vm-1", "vm-2"}, words("capture", "start", "--vf", ""))
	assert.Contains(t, words("rule", "list", "--port", ""), "net_eswitch0")
	assert.Equal(t, []string{"table", "json", "yaml", "name"}, words("-o", ""))
	for _, shell := range []string{"bash", "zsh", "fish"} {
		assert.Contains(t, dpctl(t, socket, "completion", shell).stdout, "__complete")
	}
}

func TestYAML(t *testing.T) {
	const result = `{"mac":"52:54:00:12:34:56","n":18446744073709551615,"s":"true","l":["::1"],"z":null,"t":"a -\u003e b\nc"}`
	var w bytes.Buffer
	require.NoError(t, writeYAML(&w, []byte(result)))
	assert.Equal(t, `mac: "52:54:00:12:34:56"
"n": 18446744073709551615
s: "true"
l:
- "::1"
z: null
t: |-
  a -> b
  c
`, w.String())
}

func TestEveryCommandHasHelp(t *testing.T) {
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		assert.NotEmpty(t, cmd.Short, cmd.CommandPath())
		assert.NotEmpty(t, cmd.Example, cmd.CommandPath())
		for line := range strings.Lines(cmd.Example) {
			assert.True(t, strings.HasPrefix(line, "  "), "%s: examples are indented", cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			check(child)
		}
	}
	check(newRoot())
}

func TestReferenceIsUpToDate(t *testing.T) {
	committed, err := os.ReadFile("../../docs/dpctl.md")
	require.NoError(t, err)
	assert.Equal(t, reference(newRoot()), string(committed), "go generate ./tools/dpctl writes the file anew")
}

// TestLinksNoDPDK checks that dpctl runs on a machine without DPDK.
func TestLinksNoDPDK(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	var ours []string
	for _, name := range strings.Fields(string(out)) {
		if strings.HasPrefix(name, "dpservice/") {
			ours = append(ours, name)
		}
	}
	assert.ElementsMatch(t, []string{"dpservice/wire", "dpservice/capture/filter", "dpservice/capture/pcapng",
		"dpservice/capture/receive/privilege", "dpservice/capture/receive", "dpservice/dpservice/fault",
		"dpservice/dpservice/manual", "dpservice/dpservice/nic/nicgroup", "dpservice/rpc/api", "dpservice/rpc/client",
		"dpservice/tools/dpctl"}, ours)
}
