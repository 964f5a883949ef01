// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dpservice/cgo/eal"
	"dpservice/cgo/ethdev"
	"dpservice/cgo/mempool"
	"dpservice/rteflow"
	"dpservice/test/flowperf"
	"dpservice/wire"
)

// group is the group of the rules; dpdk-test-flow-perf adds a jump from group 0 to it.
const group = 1

// form is a kind of rule, as dpdk-test-flow-perf's arguments and as a rule here. Rules of a form differ in their source
// addresses.
type form struct {
	name    string
	options []string
	rule    func(source *rteflow.Match[netip.Addr]) rteflow.Rule
}

var forms = []form{
	{
		"jump",
		[]string{"--transfer", "--group=1", "--ether", "--ipv4", "--count", "--jump"},
		func(source *rteflow.Match[netip.Addr]) rteflow.Rule {
			return rteflow.Rule{
				Attr:    rteflow.Attr{Group: group, Transfer: true},
				Pattern: []rteflow.Item{rteflow.Eth{}, rteflow.IPv4{Src: source}},
				Actions: []rteflow.Action{rteflow.Count{}, rteflow.Jump{Group: 2}},
			}
		},
	},
	{
		"rewrite",
		[]string{"--transfer", "--group=1", "--ether", "--ipv4", "--udp", "--set-src-mac", "--set-dst-mac", "--dec-ttl",
			"--count", "--port-id=0"},
		func(source *rteflow.Match[netip.Addr]) rteflow.Rule {
			return rteflow.Rule{
				Attr:    rteflow.Attr{Group: group, Transfer: true},
				Pattern: []rteflow.Item{rteflow.Eth{}, rteflow.IPv4{Src: source}, rteflow.UDP{}},
				Actions: []rteflow.Action{
					rteflow.SetMACSrc{MAC: wire.MAC{1}}, rteflow.SetMACDst{MAC: wire.MAC{1}}, rteflow.DecTTL{},
					rteflow.Count{}, rteflow.ToPortID{Port: flowperf.PF0},
				},
			}
		},
	},
}

// address returns the source address of the rule with this number.
func address(number int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number)})
}

// insert starts a NIC, installs rules, and prints how long that took.
func insert(name, way string, rules int, args []string) error {
	index := slices.IndexFunc(forms, func(f form) bool { return f.name == name })
	if index < 0 {
		return fmt.Errorf("no rule shape %q", name)
	}
	if err := eal.Init(args); err != nil {
		return err
	}
	took, err := insertInto(forms[index], way, rules)
	if err := errors.Join(err, closePorts(), eal.Cleanup()); err != nil {
		return err
	}
	fmt.Print(took)
	return nil
}

func insertInto(f form, way string, rules int) (time.Duration, error) {
	pool, err := mempool.NewPktmbuf("bench", 8191, 0, 0, mempool.DataRoom)
	if err != nil {
		return 0, err
	}
	for _, port := range ethdev.List() {
		if err := errors.Join(ethdev.Configure(port, ethdev.Config{RxQueues: 1, TxQueues: 1, Pool: pool}),
			ethdev.Start(port)); err != nil {
			return 0, err
		}
	}
	root := rteflow.Rule{
		Attr: rteflow.Attr{Transfer: true}, Pattern: []rteflow.Item{rteflow.Eth{}},
		Actions: []rteflow.Action{rteflow.Jump{Group: group}},
	}
	if _, err := rteflow.Create(flowperf.VF0, root); err != nil {
		return 0, err
	}
	return ways[way](f, rules)
}

var ways = map[string]func(f form, rules int) (time.Duration, error){create: reused, createNew: renewed,
	batch: inBatches}

// reused writes each address into the same rule value, as dpdk-test-flow-perf does.
func reused(f form, rules int) (time.Duration, error) {
	source := rteflow.Is(address(0))
	rule := f.rule(source)
	return oneByOne(rules, func(number int) rteflow.Rule {
		source.Spec = address(number)
		return rule
	})
}

// renewed makes a new rule value for each rule, which creates work for Go's garbage collector.
func renewed(f form, rules int) (time.Duration, error) {
	return oneByOne(rules, func(number int) rteflow.Rule { return f.rule(rteflow.Is(address(number))) })
}

func oneByOne(rules int, rule func(number int) rteflow.Rule) (time.Duration, error) {
	handles := make([]rteflow.Handle, rules)
	start := time.Now()
	for i := range handles {
		var err error
		if handles[i], err = rteflow.Create(flowperf.VF0, rule(i)); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// inBatches does the same as reused, but installs many rules by each call.
func inBatches(f form, rules int) (time.Duration, error) {
	const size = 1000
	sources, list := make([]*rteflow.Match[netip.Addr], size), make([]rteflow.Rule, size)
	for i := range list {
		sources[i] = rteflow.Is(address(0))
		list[i] = f.rule(sources[i])
	}
	handles := make([]rteflow.Handle, 0, rules)
	start := time.Now()
	for len(handles) < rules {
		n := min(size, rules-len(handles))
		for i := range n {
			sources[i].Spec = address(len(handles) + i)
		}
		created, err := rteflow.CreateBatch(flowperf.VF0, list[:n])
		if err != nil {
			return 0, err
		}
		handles = append(handles, created...)
	}
	return time.Since(start), nil
}

func closePorts() error {
	var errs []error
	for _, port := range slices.Backward(ethdev.List()) {
		errs = append(errs, ethdev.Stop(port), ethdev.Close(port))
	}
	return errors.Join(errs...)
}
