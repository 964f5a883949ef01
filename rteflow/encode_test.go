// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// noPort is a port that never exists: calls for it go through everything but a driver, and need no EAL.
const noPort = 31

func TestRulesThatCannotBeBuilt(t *testing.T) {
	for _, tt := range []struct {
		name    string
		rule    Rule
		cause   string
		message string
	}{
		{"no item", Rule{Pattern: []Item{Eth{}, nil}}, "item 1: unknown <nil>", "<nil> is not an item of this package"},
		{"pointer to an item", Rule{Pattern: []Item{&Eth{}}}, "item 0: unknown *rteflow.Eth",
			"*rteflow.Eth is not an item of this package"},
		{"IPv6 address in IPv4", Rule{Pattern: []Item{IPv4{Src: addr("::1")}}}, "item 0: ipv4",
			`src: "::1" is not an IPv4 address`},
		{"IPv4 address in IPv6", Rule{Pattern: []Item{IPv6{Dst: addr("1.2.3.4")}}}, "item 0: ipv6",
			`dst: "1.2.3.4" is not an IPv6 address`},
		{
			"IPv6 mask in IPv4", Rule{Pattern: []Item{IPv4{Dst: Masked(netip.IPv4Unspecified(), netip.IPv6Unspecified())}}},
			"item 0: ipv4", `dst: "::" is not an IPv4 address`,
		},
		{"no action", Rule{Actions: []Action{nil}}, "action 0: unknown <nil>", "<nil> is not an action of this package"},
		{"timeout", Rule{Actions: []Action{Count{}, Age{Timeout: 1 << 24}}}, "action 1: age",
			"timeout 16777216 is more than 16777215 seconds"},
		{"VNI", Rule{Pattern: []Item{VXLAN{VNI: Is[uint32](1 << 24)}}}, "item 0: vxlan",
			"vni: 16777216 is more than 24 bits"},
		{"IPv6 address to set", Rule{Actions: []Action{SetIPv4Dst{netip.IPv6Unspecified()}}}, "action 0: set_ipv4_dst",
			`"::" is not an IPv4 address`},
		{"IPv4 address to set", Rule{Actions: []Action{Count{}, SetIPv6Src{netip.IPv4Unspecified()}}},
			"action 1: set_ipv6_src", `"0.0.0.0" is not an IPv6 address`},
		{
			"sample in sample", Rule{Actions: []Action{Sample{Actions: []Action{Count{}, Sample{}}}}},
			"action 0: sample", "action 1: a sample within a sample",
		},
		{
			"header too long", Rule{Actions: []Action{RawEncap{Data: make([]byte, MaxRawEncap+1)}}},
			"action 0: raw_encap", "a header of 133 bytes is longer than the 132 that a NIC takes",
		},
		{
			"header of copies too long", Rule{Actions: []Action{Sample{Actions: []Action{RawEncap{Data: make([]byte, 140)}}}}},
			"action 0: sample", "action 0: a header of 140 bytes is longer than the 132 that a NIC takes",
		},
		{
			"no action in sample", Rule{Actions: []Action{Sample{Actions: []Action{nil}}}},
			"action 0: sample", "action 0: <nil> is not an action of this package",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Create(noPort, tt.rule)
			var rerr *Error
			require.ErrorAs(t, err, &rerr)
			assert.Equal(t, "create", rerr.Op)
			assert.Equal(t, uint16(noPort), rerr.Port)
			assert.Equal(t, tt.cause, rerr.Cause)
			assert.Equal(t, tt.message, rerr.Message)
			assert.Equal(t, syscall.EINVAL, rerr.Errno)
			assert.Error(t, Validate(noPort, tt.rule))
		})
	}
}

// The longest header reaches the driver.
func TestTheLongestHeader(t *testing.T) {
	_, err := Create(noPort, Rule{Actions: []Action{RawEncap{Data: make([]byte, MaxRawEncap)}}})
	assert.ErrorIs(t, err, syscall.ENODEV)
}

func TestCallsForAPortThatDoesNotExist(t *testing.T) {
	_, create := Create(noPort, Rule{})
	_, query := Query(noPort, 1)
	_, queryAge := QueryAge(noPort, 1)
	_, aged := Aged(noPort)
	_, proxy := TransferProxy(noPort)
	_, dump := DevDump(noPort)
	_, indirect := CreateIndirect(noPort, Attr{Transfer: true}, Count{})
	_, queryIndirect := QueryIndirect(noPort, 1)
	for name, err := range map[string]error{
		"validate": Validate(noPort, Rule{}), "create": create, "destroy": Destroy(noPort, 1), "query": query,
		"query_age": queryAge,
		"flush":     Flush(noPort), "isolate": Isolate(noPort, true), "get_aged_flows": aged, "pick_transfer_proxy": proxy,
		"dev_dump": dump, "action_handle_create": indirect, "action_handle_query": queryIndirect,
		"action_handle_destroy": DestroyIndirect(noPort, 1),
	} {
		require.ErrorIs(t, err, syscall.ENODEV, name)
		assert.True(t, strings.HasPrefix(err.Error(), "rte_flow "+name+" on port 31: "), err.Error())
	}
}

func TestTheZeroHandleIsRefused(t *testing.T) {
	for _, err := range []error{
		Destroy(noPort, 0),
		func() error { _, err := Query(noPort, 0); return err }(),
		func() error { _, err := QueryAge(noPort, 0); return err }(),
		func() error { _, err := QueryIndirect(noPort, 0); return err }(),
		func() error { _, err := QueryIndirectAge(noPort, 0); return err }(),
		DestroyIndirect(noPort, 0),
	} {
		var rerr *Error
		require.ErrorAs(t, err, &rerr)
		assert.Equal(t, ErrorHandle, rerr.Type)
	}
}

func TestErrorText(t *testing.T) {
	err := error(&Error{
		Op: "create", Port: 3, Type: ErrorActionConf, Message: "ratio is not 1", Errno: syscall.ENOTSUP,
		Cause: "action 2: sample",
	})
	assert.EqualError(t, err,
		"rte_flow create on port 3: action 2: sample: ratio is not 1: operation not supported (action_conf)")
	assert.ErrorIs(t, err, syscall.ENOTSUP)
	assert.EqualError(t, &Error{Op: "flush", Errno: syscall.EIO, Type: ErrorUnspecified},
		"rte_flow flush on port 0: input/output error")
	assert.Equal(t, "type 99", ErrorType(99).String())
}

// Every rule that can be encoded is understood by the C side, which then finds no such port. Nothing panics.
func FuzzRule(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		seed := make([]byte, 400)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &dice{data}
		rule := d.rule()
		rule.Actions = append(rule.Actions, Indirect{d.u32(), IndirectHandle(d.u32())})
		if err := Validate(noPort, rule); !errors.Is(err, syscall.ENODEV) {
			t.Errorf("%v: %v", rule, err)
		}
		checkText(t, rule)
		rule = d.broken(rule)
		if err := Validate(noPort, rule); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v: %v", rule, err)
		}
		checkText(t, rule)
	})
}

func checkText(t *testing.T, r Rule) {
	text, commands := r.String(), r.Commands(1)
	if strings.Contains(text, "\n") || strings.Contains(strings.Join(commands, ""), "\n") {
		t.Errorf("more than one line: %q", text)
	}
}
