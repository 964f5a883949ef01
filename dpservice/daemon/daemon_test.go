// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/config"
	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/rpc/server"
	"dpservice/test/plugin"
	"dpservice/wire"
)

// childEnv names the variable that makes the test binary a daemon whose uplink has the variable's value for a name: EAL
// starts only once in a process, so each start that fails has its own.
const childEnv = "DPSERVICE_DAEMON_TEST_PF0"

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "daemon-test-")
	if err != nil {
		fmt.Println(err)
		return 2
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Setenv("RUNTIME_DIRECTORY", dir); err != nil { // where EAL puts its files
		fmt.Println(err)
		return 2
	}
	if pf0 := os.Getenv(childEnv); pf0 != "" {
		return child(pf0, filepath.Join(dir, "socket"))
	}
	return m.Run()
}

func child(pf0, socket string) int {
	cfg := testConfig(socket)
	cfg.Ports = config.Ports{PF0: pf0, VFs: config.Patterns{"net_null1"}}
	fmt.Println(Run(context.Background(), cfg, slog.Default(), Reload{}))
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		fmt.Println("the socket is still there:", err)
		return 2
	}
	return 0
}

func testConfig(socket string) config.Config {
	cfg := config.Default()
	cfg.EAL = []string{
		"--no-huge", "-m", "256", "--no-pci", "-l", "0,1", "--no-telemetry", "--file-prefix",
		fmt.Sprintf("daemon-test-%d", os.Getpid()),
		"--vdev=net_null0,no-rx=1", "--vdev=net_null1,no-rx=1", "--vdev=net_null2,no-rx=1", "--vdev=net_null3,no-rx=1",
	}
	cfg.Ports = config.Ports{PF0: "net_eswitch0", PF1: "net_eswitch0_pf1",
		VFs: config.Patterns{"net_eswitch0_representor_vf*"}}
	cfg.Underlay = config.Underlay{IP: netip.MustParseAddr("fc00:1::1"), RouterMAC: wire.MAC{2, 0, 0, 0, 0, 0xee}}
	cfg.Socket, cfg.Mbufs, cfg.Flows.Capacity = socket, 4096, 1024
	return cfg
}

func TestStartFailures(t *testing.T) {
	tests := map[string]struct{ pf0, want string }{
		"no such port":  {"nosuch", `cannot find the ports: pf0: no port "nosuch"; there are: net_null0, net_null1`},
		"not switchdev": {"net_null0", "cannot start the ports: net_null0 is not in switchdev mode"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+tt.pf0)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			require.NoError(t, cmd.Run(), out.String())
			assert.Contains(t, out.String(), tt.want)
			assert.NotContains(t, out.String(), "DATA RACE")
		})
	}
}

func TestASocketInUse(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := server.Listen(socket)
	require.NoError(t, err)
	defer func() { assert.NoError(t, l.Close()) }()
	err = Run(context.Background(), testConfig(socket), slog.Default(), Reload{})
	assert.ErrorContains(t, err, "cannot open the socket")
	_, err = os.Stat(socket)
	assert.NoError(t, err, "the other daemon's socket stays")
}

// daemonUnderTest is a running daemon and a client of it.
type daemonUnderTest struct {
	t      *testing.T
	socket string
}

func call[R any](d daemonUnderTest, method api.AnyMethod, params any) (result R) {
	d.t.Helper()
	require.NoError(d.t, client.CallAny(d.t.Context(), d.socket, method, params, &result))
	return result
}

func (d daemonUnderTest) refused(method api.AnyMethod, params any, reason string) {
	d.t.Helper()
	err := client.CallAny(d.t.Context(), d.socket, method, params, nil)
	var e *client.Error
	require.ErrorAs(d.t, err, &e)
	assert.Equal(d.t, reason, e.Data.Reason, e.Message)
}

func TestLife(t *testing.T) {
	path, remove, err := plugin.Install()
	require.NoError(t, err)
	defer func() { assert.NoError(t, remove()) }()
	cfg := testConfig(filepath.Join(t.TempDir(), "s"))
	cfg.EAL = append(cfg.EAL, "-d", path, "--vdev=net_eswitch0,pf0=net_null0,pf1=net_null1,vf0=net_null2,vf7=net_null3")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, slog.Default(), Reload{}) }()
	d := daemonUnderTest{t, cfg.Socket}
	require.Eventually(t, func() bool {
		_, err := client.Call(ctx, cfg.Socket, api.MethodSystemInfo, api.None{})
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)

	d.checkInfo()
	base := call[api.RuleListResult](d, api.MethodRuleList, nil).Rules
	d.checkInterfaces()
	d.checkCapture()
	assert.Equal(t, base, call[api.RuleListResult](d, api.MethodRuleList, nil).Rules)

	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the daemon does not end")
	}
	_, err = os.Stat(cfg.Socket)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func (d daemonUnderTest) checkInfo() {
	info := call[api.SystemInfoResult](d, api.MethodSystemInfo, nil)
	assert.Equal(d.t, "net_eswitch", info.NIC.Driver)
	assert.Equal(d.t, "represented_port", info.NIC.PortNaming)
	assert.Equal(d.t, "02:00:00:00:00:ee", info.Underlay.RouterMAC)
	assert.Equal(d.t, api.Lcores{Main: 0, Workers: []int{1}}, info.Lcores)
	assert.True(d.t, info.Offload)

	var roles []string
	for _, p := range call[api.PortListResult](d, api.MethodPortList, nil).Ports {
		roles = append(roles, fmt.Sprint(p.Role, p.Index, p.Started, p.SwitchDomain != nil))
	}
	assert.Equal(d.t, []string{"pf0 true true", "pf1 true false", "vf0 true true", "vf7 true true"}, roles)
	assert.Len(d.t, call[api.PortStatsResult](d, api.MethodPortStats, nil).Ports, 4)
	assert.NotEmpty(d.t, call[api.GraphStatsResult](d, api.MethodGraphStats, nil).Nodes)
	assert.Contains(d.t, call[api.GraphDOTResult](d, api.MethodGraphDOT, nil).DOT, "flow_lookup")
	assert.Empty(d.t, call[api.FlowListResult](d, api.MethodFlowList, nil).Flows)
}

func (d daemonUnderTest) checkInterfaces() {
	vm := api.InterfaceCreateParams{ID: "vm-1", Device: "net_eswitch0_representor_vf7", VNI: 100, IPv4: "10.0.0.1"}
	created := call[api.Interface](d, api.MethodInterfaceCreate, vm)
	assert.Equal(d.t, "fc00:1::1:1", created.UnderlayIP)
	d.refused(api.MethodInterfaceCreate, vm, "ALREADY_EXISTS")
	unknown := vm
	unknown.ID, unknown.Device = "vm-2", "nosuch"
	d.refused(api.MethodInterfaceCreate, unknown, "NOT_FOUND")

	route := api.Route{VNI: 100, Prefix: "10.1.0.0/16", NextHopVNI: 100, NextHopIP: "fc00:2::1"}
	call[any](d, api.MethodRouteAdd, route)
	d.refused(api.MethodRouteAdd, route, "ALREADY_EXISTS")
	assert.Equal(d.t, []api.Route{route}, call[api.RouteListResult](d, api.MethodRouteList, nil).Routes)
	call[any](d, api.MethodRouteDelete, api.RouteDeleteParams{VNI: 100, Prefix: "10.1.0.0/16"})
	d.refused(api.MethodRuleList, api.RuleListParams{Port: "nosuch"}, "NOT_FOUND")
}

// checkCapture captures the interface of checkInterfaces, and deletes it meanwhile.
func (d daemonUnderTest) checkCapture() {
	pf0 := 0
	params := api.CaptureStartParams{
		SinkNodeIP: "fc00:9::1", UDPSrcPort: 3000, UDPDstPort: 3010,
		Interfaces: []api.CaptureSelector{{VF: "vm-1"}, {PF: &pf0}},
	}
	require.Eventually(d.t, func() bool { // the router's MAC is passed on at once, but not within the start
		_, err := client.Call(d.t.Context(), d.socket, api.MethodCaptureStart, params)
		return err == nil
	}, 5*time.Second, 20*time.Millisecond)
	group := uint32(1)
	assert.Len(d.t, call[api.RuleListResult](d, api.MethodRuleList, api.RuleListParams{Group: &group}).Rules, 2)
	call[any](d, api.MethodInterfaceDelete, api.InterfaceID{ID: "vm-1"})
	assert.Len(d.t, call[api.RuleListResult](d, api.MethodRuleList, api.RuleListParams{Group: &group}).Rules, 1)
	d.refused(api.MethodInterfaceDelete, api.InterfaceID{ID: "vm-1"}, "NOT_FOUND")
	assert.Equal(d.t, 1, call[api.CaptureStopResult](d, api.MethodCaptureStop, nil).StoppedInterfaces)
}

func TestUnwinding(t *testing.T) {
	var u unwinder
	var order []int
	broken := errors.New("broken")
	u.add("do one", func() error { order = append(order, 1); return nil })
	u.add("do two", func() error { order = append(order, 2); return broken })
	u.add("do three", func() error { order = append(order, 3); return nil })
	quiet := slog.New(slog.DiscardHandler)
	err := u.run(quiet)
	assert.ErrorIs(t, err, broken)
	assert.EqualError(t, err, "cannot do two: broken")
	assert.Equal(t, []int{3, 2, 1}, order)
	assert.NoError(t, u.run(quiet), "once is enough")

	log, logged := io.Pipe()
	said := ""
	u.add("wait until it is said", func() (err error) { said, err = bufio.NewReader(log).ReadString('\n'); return err })
	assert.NoError(t, u.run(slog.New(slog.NewTextHandler(logged, nil))))
	assert.Contains(t, said, `step="wait until it is said"`)
}
