// SPDX-License-Identifier: Apache-2.0

package rteflow_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/cgo/eal"
	"dpservice/cgo/ethdev"
	"dpservice/cgo/mempool"
	. "dpservice/rteflow"
	"dpservice/rteflow/ruleset"
	"dpservice/test/plugin"
	"dpservice/wire"
)

// The test NIC's devargs: nothing arrives at its far sides. It has marks and metadata in the switch too.
var vdevs = []string{
	"--vdev=net_null0,no-rx=1", "--vdev=net_null1,no-rx=1", "--vdev=net_null2,no-rx=1", "--vdev=net_null3,no-rx=1",
	"--vdev=net_eswitch0,pf0=net_null0,pf1=net_null1,vf0=net_null2,vf7=net_null3,dv_xmeta_en=1",
}

// ports are the test NIC's.
type ports struct{ pf0, pf1, vf0, vf7 uint16 }

// nic is the test NIC, for the tests that ask for it; stop is what ends it.
var (
	nic  = sync.OnceValues(startNIC)
	stop []func() error
)

func TestMain(m *testing.M) {
	code := m.Run()
	for i := len(stop) - 1; i >= 0; i-- {
		if err := stop[i](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func startNIC() (ports, error) {
	path, remove, err := plugin.Install()
	if err != nil {
		return ports{}, err
	}
	stop = append(stop, remove)
	err = eal.Init(append([]string{
		"--no-huge", "-m", "128", "--no-pci", "--file-prefix", fmt.Sprintf("rteflow-test-%d", os.Getpid()), "-l", "0", "-d",
		path,
	}, vdevs...))
	if err != nil {
		return ports{}, err
	}
	stop = append(stop, eal.Cleanup)
	pool, err := mempool.NewPktmbuf("rteflow", 4095, 0, 0, mempool.DataRoom)
	if err != nil {
		return ports{}, err
	}
	var ids [4]uint16
	for i, name := range []string{"net_eswitch0", "net_eswitch0_pf1", "net_eswitch0_representor_vf0",
		"net_eswitch0_representor_vf7"} {
		if ids[i], err = startPort(name, pool); err != nil {
			return ports{}, err
		}
	}
	return ports{ids[0], ids[1], ids[2], ids[3]}, nil
}

func startPort(name string, pool *mempool.Pool) (uint16, error) {
	id, err := ethdev.Find(name)
	if err != nil {
		return 0, err
	}
	err = errors.Join(ethdev.Configure(id, ethdev.Config{RxQueues: 1, TxQueues: 1, Pool: pool}), ethdev.Start(id))
	stop = append(stop, func() error { return errors.Join(ethdev.Stop(id), ethdev.Close(id)) })
	return id, err
}

// needNIC starts the test NIC. All of its rules are gone when the test ends.
func needNIC(t *testing.T) ports {
	t.Helper()
	p, err := nic()
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, port := range []uint16{p.pf0, p.pf1, p.vf0, p.vf7} {
			require.NoError(t, Flush(port))
		}
	})
	return p
}

// header is what precedes a captured frame.
func header() []byte {
	h := make([]byte, 62)
	copy(h[12:], []byte{0x86, 0xdd, 0x60})
	h[20], h[21] = 17, 64
	copy(h[22:], netip.MustParseAddr("fc00:1::1").AsSlice())
	copy(h[38:], netip.MustParseAddr("fc00:2::1").AsSlice())
	h[55], h[57] = 30, 40
	return h
}

func captureRule(p ports) Rule {
	return Rule{
		Attr:    Attr{Group: 1, Transfer: true},
		Pattern: []Item{RepresentedPort{Port: p.vf0}, Eth{}},
		Actions: []Action{
			Count{},
			Sample{Ratio: 1, Actions: []Action{RawEncap{Data: header()}, ToRepresentedPort{Port: p.pf0}}},
			Jump{Group: 2},
		},
	}
}

func flowRule(p ports) Rule {
	return Rule{
		Attr: Attr{Group: 2, Transfer: true},
		Pattern: []Item{
			RepresentedPort{Port: p.vf0}, Eth{},
			IPv4{Src: Is(netip.MustParseAddr("10.0.0.1")), Dst: Is(netip.MustParseAddr("10.0.0.2")), Proto: Is[uint8](6)},
			TCP{SrcPort: Is[uint16](1024), DstPort: Is[uint16](80), Flags: Masked[uint8](0, 7)},
		},
		Actions: []Action{
			SetMACSrc{wire.MAC{2, 0, 0, 0, 0, 1}}, SetMACDst{wire.MAC{2, 0, 0, 0, 0, 2}}, DecTTL{},
			Age{Timeout: 1, Context: 0xfedcba9876543210},
			Count{}, ToRepresentedPort{Port: p.vf7},
		},
	}
}

func TestPortsOfTheNIC(t *testing.T) {
	p := needNIC(t)
	assert.ElementsMatch(t, []uint16{p.pf0, p.pf1, p.vf0, p.vf7}, ethdev.List(), "the far sides are the NIC's own")
	pf0, err := ethdev.GetInfo(p.pf0)
	require.NoError(t, err)
	assert.False(t, pf0.Representor)
	vf7, err := ethdev.GetInfo(p.vf7)
	require.NoError(t, err)
	assert.True(t, vf7.Representor)
	assert.Equal(t, 7, vf7.RepresentorID)
	require.NotNil(t, pf0.SwitchDomain)
	assert.Equal(t, pf0.SwitchDomain, vf7.SwitchDomain)
	pf1, err := ethdev.GetInfo(p.pf1)
	require.NoError(t, err)
	assert.Nil(t, pf1.SwitchDomain)

	proxy, err := TransferProxy(p.vf7)
	require.NoError(t, err)
	assert.Contains(t, ethdev.List(), proxy)
}

func TestRulesLife(t *testing.T) {
	p := needNIC(t)
	for name, r := range map[string]Rule{"capture": captureRule(p), "flow": flowRule(p)} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, Validate(p.vf0, r))
			h, err := Create(p.vf0, r)
			require.NoError(t, err)
			require.NotZero(t, h)
			counters, err := Query(p.vf0, h)
			require.NoError(t, err)
			assert.Zero(t, counters)
			require.NoError(t, Destroy(p.vf0, h))
		})
	}
}

// flows are n rules that differ in the TCP source port.
func flows(p ports, n int) []Rule {
	rules := make([]Rule, n)
	for i := range rules {
		rules[i] = flowRule(p)
		rules[i].Pattern[3] = TCP{SrcPort: Is(uint16(i))}
	}
	return rules
}

func TestCreateBatch(t *testing.T) {
	p := needNIC(t)
	bad := captureRule(p)
	bad.Actions = []Action{Jump{Group: 1}}
	for _, tt := range []struct {
		name   string
		rules  []Rule
		stand  int
		errno  syscall.Errno
		reason string
	}{
		{"none", nil, 0, 0, ""},
		{"one", flows(p, 1), 1, 0, ""},
		{"many", flows(p, 1000), 1000, 0, ""},
		{"the first is refused", append([]Rule{bad}, flows(p, 70)...), 0, syscall.EINVAL, ""},
		{"a later one is refused", append(flows(p, 130), bad, bad), 130, syscall.EINVAL, ""},
		{"one of a next call is refused", append(flows(p, 64), bad), 64, syscall.EINVAL, ""},
		{"one cannot be built", append(flows(p, 100), Rule{Actions: []Action{nil}}, bad), 100, syscall.EINVAL,
			"action 0: unknown <nil>"},
		{"the first cannot be built", []Rule{{Pattern: []Item{nil}}}, 0, syscall.EINVAL, "item 0: unknown <nil>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			handles, err := CreateBatch(p.vf0, tt.rules)
			assert.Len(t, handles, tt.stand)
			if tt.errno == 0 {
				require.NoError(t, err)
			} else {
				var rerr *Error
				require.ErrorAs(t, err, &rerr)
				assert.Equal(t, "create", rerr.Op)
				assert.Equal(t, p.vf0, rerr.Port)
				assert.Equal(t, tt.errno, rerr.Errno)
				assert.Equal(t, tt.reason, rerr.Cause)
			}
			dump, err := DevDump(p.vf0)
			require.NoError(t, err)
			assert.Equal(t, tt.stand, strings.Count(dump, "\n"), "a line for each rule")
			for _, h := range handles {
				require.NotZero(t, h)
				require.NoError(t, Destroy(p.vf0, h))
			}
		})
	}
}

func TestDevDump(t *testing.T) {
	p := needNIC(t)
	empty, err := DevDump(p.vf0)
	require.NoError(t, err)
	assert.Empty(t, empty)
	_, err = Create(p.vf0, captureRule(p))
	require.NoError(t, err)
	dump, err := DevDump(p.vf0)
	require.NoError(t, err)
	assert.Contains(t, dump, "group 1 priority 0")
	assert.Equal(t, 1, strings.Count(dump, "\n"))
}

func TestIndirectActions(t *testing.T) {
	p := needNIC(t)
	attr := Attr{Group: 2, Transfer: true}
	count, err := CreateIndirect(p.vf0, attr, Count{})
	if errors.Is(err, syscall.ENOSYS) {
		t.Skip("the test NIC has no indirect actions yet")
	}
	require.NoError(t, err)
	age, err := CreateIndirect(p.vf0, attr, Age{Timeout: 1, Context: 77})
	require.NoError(t, err)
	rule := flowRule(p)
	rule.Actions = []Action{Indirect{1, count}, Indirect{2, age}, ToRepresentedPort{Port: p.vf7}}
	other := rule
	other.Pattern = []Item{RepresentedPort{Port: p.vf0}, Eth{}}
	handles, err := CreateBatch(p.vf0, []Rule{rule, other})
	require.NoError(t, err)
	assert.ErrorIs(t, DestroyIndirect(p.vf0, count), syscall.EBUSY, "rules use it")
	counters, err := QueryIndirect(p.vf0, count)
	require.NoError(t, err)
	assert.Zero(t, counters)
	assert.Eventually(t, func() bool {
		state, err := QueryIndirectAge(p.vf0, age)
		return err == nil && state.Aged
	}, 5*time.Second, 50*time.Millisecond)
	for _, h := range handles {
		require.NoError(t, Destroy(p.vf0, h))
	}
	require.NoError(t, DestroyIndirect(p.vf0, count))
	require.NoError(t, DestroyIndirect(p.vf0, age))
}

func TestAgeing(t *testing.T) {
	p := needNIC(t)
	r := flowRule(p)
	h, err := Create(p.vf0, r)
	require.NoError(t, err)
	young, err := QueryAge(p.vf0, h)
	require.NoError(t, err)
	assert.False(t, young.Aged)

	var aged []uint64
	assert.Eventually(t, func() bool {
		contexts, err := Aged(p.vf0)
		require.NoError(t, err)
		aged = append(aged, contexts...)
		return len(aged) > 0
	}, 5*time.Second, 50*time.Millisecond)
	assert.Equal(t, []uint64{0xfedcba9876543210}, aged)
	old, err := QueryAge(p.vf0, h)
	require.NoError(t, err)
	assert.True(t, old.Aged)
	require.NoError(t, Destroy(p.vf0, h))
}

func TestRefusals(t *testing.T) {
	p := needNIC(t)
	change := func(change func(*Rule)) Rule {
		r := captureRule(p)
		change(&r)
		return r
	}
	for _, tt := range []struct {
		name  string
		port  uint16
		rule  Rule
		errno syscall.Errno
		cause string
	}{
		{
			"ratio", p.vf0, change(func(r *Rule) { r.Actions[1] = Sample{Ratio: 2, Actions: []Action{ToPortID{Port: p.pf0}}} }),
			syscall.ENOTSUP, "action 1: sample",
		},
		{
			"action within the sample", p.vf0,
			change(func(r *Rule) { r.Actions[1] = Sample{Ratio: 1, Actions: []Action{Count{}, ToPortID{Port: p.pf0}}} }),
			syscall.EINVAL, "action 1: sample: action 0: count",
		},
		{"two fates", p.vf0, change(func(r *Rule) { r.Actions[1] = Jump{Group: 5} }), syscall.EINVAL, "action 2: jump"},
		{"PF1", p.pf1, captureRule(p), syscall.ENOTSUP, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, create := Create(tt.port, tt.rule)
			for op, err := range map[string]error{"validate": Validate(tt.port, tt.rule), "create": create} {
				var rerr *Error
				require.ErrorAs(t, err, &rerr)
				assert.Equal(t, op, rerr.Op)
				assert.Equal(t, tt.errno, rerr.Errno, err)
				assert.Equal(t, tt.cause, rerr.Cause, err)
				assert.NotEmpty(t, rerr.Message)
				assert.NotEqual(t, ErrorNone, rerr.Type)
			}
		})
	}
}

// What only the card refuses is valid; create says so, and names no part of the rule.
func TestARefusalByTheCard(t *testing.T) {
	p := needNIC(t)
	r := captureRule(p)
	r.Actions[2] = Jump{Group: 1}
	require.NoError(t, Validate(p.vf0, r))
	_, err := Create(p.vf0, r)
	var rerr *Error
	require.ErrorAs(t, err, &rerr)
	assert.Equal(t, syscall.EINVAL, rerr.Errno)
	assert.Empty(t, rerr.Cause)
}

func TestQueryWithoutCount(t *testing.T) {
	p := needNIC(t)
	r := captureRule(p)
	r.Actions = r.Actions[1:]
	h, err := Create(p.vf0, r)
	require.NoError(t, err)
	_, err = Query(p.vf0, h)
	assert.Error(t, err)
	_, err = QueryAge(p.vf0, h)
	assert.Error(t, err)
	require.NoError(t, Destroy(p.vf0, h))
}

func TestIsolate(t *testing.T) {
	p := needNIC(t)
	assert.ErrorIs(t, Isolate(p.pf0, true), syscall.EBUSY, "the port runs")
	require.NoError(t, ethdev.Stop(p.pf0))
	require.NoError(t, Isolate(p.pf0, true))
	require.NoError(t, Isolate(p.pf0, false))
	require.NoError(t, ethdev.Start(p.pf0))
}

// name is an Owner.
type name string

func (n name) String() string { return string(n) }

func TestASetOnTheNIC(t *testing.T) {
	p := needNIC(t)
	set := ruleset.New(NIC{})
	capture := &ruleset.Rule{Port: p.vf0, Owner: name("capture"), Spec: captureRule(p)}
	flow := &ruleset.Rule{Port: p.vf0, Owner: name("flow"), Spec: flowRule(p)}
	bad := &ruleset.Rule{Port: p.vf0, Owner: name("bad"), Spec: captureRule(p)}
	bad.Spec.Actions = []Action{Jump{Group: 1}}
	require.NoError(t, set.Apply(ruleset.Add(capture, flow)))
	err := set.Apply(slices.Concat(ruleset.Remove(capture), ruleset.Add(bad)))
	var rerr *Error
	require.ErrorAs(t, err, &rerr)
	assert.Len(t, set.List(), 2)
	_, err = set.Counters(capture)
	require.NoError(t, err, "it is installed again")
	require.NoError(t, set.Clear())
}

func TestDestroyBatch(t *testing.T) {
	p := needNIC(t)
	handles, err := CreateBatch(p.vf0, []Rule{captureRule(p), flowRule(p)})
	require.NoError(t, err)
	n, err := DestroyBatch(p.vf0, []Handle{handles[0], 0, handles[1]})
	assert.Equal(t, 1, n)
	assert.ErrorIs(t, err, syscall.EINVAL, "0 is no rule")
	_, err = Query(p.vf0, handles[1])
	require.NoError(t, err, "those behind it are still installed")
	n, err = DestroyBatch(p.vf0, handles[1:])
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	n, err = DestroyBatch(p.vf0, nil)
	require.NoError(t, err)
	assert.Zero(t, n)
}

// testpmd creates our rules on a test NIC of its own, the ports of which have the same numbers.
func TestTestpmdReplaysTheCommands(t *testing.T) {
	p := needNIC(t)
	path, remove, err := plugin.Install()
	require.NoError(t, err)
	defer func() { require.NoError(t, remove()) }()
	commands := append(captureRule(p).Commands(p.vf0), flowRule(p).Commands(p.vf0)...)

	cmd := exec.CommandContext(t.Context(), "dpdk-testpmd", append(append([]string{
		"--no-huge", "-m", "256", "--no-pci", "--file-prefix", fmt.Sprintf("rteflow-replay-%d", os.Getpid()), "-l", "0,1",
		"-d", path,
	}, vdevs...), "--", "-i", "--total-num-mbufs=4096")...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\nquit\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "Flow rule #0 created")
	assert.Contains(t, string(out), "Flow rule #1 created")
}
