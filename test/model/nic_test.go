// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"dpservice/cgo/eal"
	"dpservice/cgo/ethdev"
	"dpservice/cgo/mempool"
	"dpservice/cgo/ringport"
	"dpservice/rteflow"
	"dpservice/test/topology"
)

// testPorts are the ports of each NIC: name, and place in the switch. Cases and the reference know a port by its place
// here.
var testPorts = []struct {
	name           string
	domain, uplink bool
}{
	{"pf0", true, true},
	{"pf1", false, false},
	{"vf0", true, false},
	{"vf1", true, false},
	{"vf5", true, false},
}

const rxQueues = 2

// cardVariable is the environment variable that names the card of a process that runs on a virtual ConnectX.
const cardVariable = "DPSERVICE_MODEL_CARD"

// nic is a NIC under test. Its ports are numbered as in testPorts.
type nic interface {
	name() string
	// reset takes all rules away and isolates these ports only.
	reset(isolated map[uint16]bool) error
	// exchange gives frames to the NIC and returns what comes out of it: want frames, of which the last perhaps may stay
	// away.
	exchange(shots []shot, want, perhaps int) ([]Output, error)
	// hides tells of an output that it comes out of the NIC, but cannot be seen.
	hides(o Output) bool
	// countsLate says that a query tells what the counters were up to some seconds ago.
	countsLate() bool
	// ethdevs are the ports' ids in DPDK.
	ethdevs() ports
}

// shot is a frame from a port's far side or, by the application, from the port itself.
type shot struct {
	port     uint16
	frame    []byte
	segment  int
	transmit bool
}

// nics are those of the process, of which the first is net_eswitch: EAL starts once. thePorts are the ports that all of
// them have.
var (
	nics     []nic
	thePorts []Port
	undo     []func() error // what start began, last first
)

func TestMain(m *testing.M) {
	run := func() int { return topology.Main(m) }
	if os.Getenv(cardVariable) != "" {
		run = m.Run // the lab is that of the process which has started this one
	}
	code := 1
	if err := startNICs(os.Getenv(cardVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = run()
	}
	for _, u := range slices.Backward(undo) {
		if err := u(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// startNICs makes net_eswitch and, if there is a card, net_mlx5 over it.
func startNICs(card string) error {
	args := []string{"--no-huge", "--file-prefix", fmt.Sprintf("model-test-%d", os.Getpid()), "-l", "0"}
	args, err := eswitchArgs(args)
	if err != nil {
		return err
	}
	if card == "" {
		args = append(args, "-m", "128", "--no-pci")
	} else {
		args = append(args, "-m", "384")
		args = append(args, mlx5Args...)
	}
	if err := eal.Init(args); err != nil {
		return err
	}
	undo = append(undo, eal.Cleanup)
	es, err := newEswitch(card)
	if err != nil {
		return err
	}
	nics = append(nics, es)
	for i, p := range testPorts {
		info, err := ethdev.GetInfo(es.ids[i])
		if err != nil {
			return err
		}
		thePorts = append(thePorts, Port{ID: uint16(i), Name: p.name, Switch: p.domain, Uplink: p.uplink, MTU: int(info.MTU),
			Queues: rxQueues})
	}
	if card == "" {
		return nil
	}
	mlx5, err := newMLX5(card)
	if err != nil {
		return err
	}
	nics = append(nics, mlx5)
	return nil
}

// ports are the ids in DPDK of a NIC's ports.
type ports struct {
	ids      []uint16
	isolated []bool
}

// newPorts starts the ports of these names.
func newPorts(names []string, pool *mempool.Pool) (ports, error) {
	p := ports{isolated: make([]bool, len(names))}
	for _, name := range names {
		id, err := ethdev.Find(name)
		if err != nil {
			return p, err
		}
		undo = append(undo, func() error { return errors.Join(ethdev.Stop(id), ethdev.Close(id)) })
		err = errors.Join(ethdev.Configure(id, ethdev.Config{RxQueues: rxQueues, TxQueues: 1, RxDescs: 512, TxDescs: 512,
			Pool: pool}), ethdev.Start(id))
		if err != nil {
			return p, err
		}
		p.ids = append(p.ids, id)
	}
	return p, nil
}

func (p ports) ethdevs() ports { return p }

func (p ports) reset(isolated map[uint16]bool) error {
	for i, id := range p.ids {
		if err := rteflow.Flush(id); err != nil {
			return err
		}
		on := isolated[uint16(i)]
		if p.isolated[i] == on {
			continue
		}
		p.isolated[i] = on
		if err := errors.Join(ethdev.Stop(id), rteflow.Isolate(id, on), ethdev.Start(id)); err != nil {
			return err
		}
	}
	return nil
}

// id is that of a port; a number of no port stays.
func (p ports) id(port uint16) uint16 {
	if int(port) < len(p.ids) {
		return p.ids[port]
	}
	return port
}

// rule is the rule with the ids of the ports that it names, and with the NIC's handles of indirect actions.
func (p ports) rule(r rteflow.Rule, handles map[uint32]rteflow.IndirectHandle) rteflow.Rule {
	r.Pattern = slices.Clone(r.Pattern)
	for i, it := range r.Pattern {
		switch it := it.(type) {
		case rteflow.RepresentedPort:
			r.Pattern[i] = rteflow.RepresentedPort{Port: p.id(it.Port)}
		case rteflow.PortID:
			r.Pattern[i] = rteflow.PortID{Port: p.id(it.Port)}
		}
	}
	r.Actions = p.actions(r.Actions, handles)
	return r
}

func (p ports) actions(list []rteflow.Action, handles map[uint32]rteflow.IndirectHandle) []rteflow.Action {
	list = slices.Clone(list)
	for i, a := range list {
		switch a := a.(type) {
		case rteflow.ToRepresentedPort:
			list[i] = rteflow.ToRepresentedPort{Port: p.id(a.Port)}
		case rteflow.ToPortID:
			list[i] = rteflow.ToPortID{Port: p.id(a.Port)}
		case rteflow.Indirect:
			list[i] = rteflow.Indirect{ID: a.ID, Handle: handles[a.ID]}
		case rteflow.Sample:
			list[i] = rteflow.Sample{Ratio: a.Ratio, Actions: p.actions(a.Actions, handles)}
		}
	}
	return list
}

// received appends what the application has received by the ports.
func (p ports) received(out []Output, buf []byte) ([]Output, error) {
	for port, id := range p.ids {
		for q := range uint16(rxQueues) {
			for {
				frame, err := ringport.ReceiveFrom(id, q, buf)
				if err != nil {
					return nil, err
				}
				if frame == nil {
					break
				}
				out = append(out, Output{Port: uint16(port), Queue: int(q), Frame: frame})
			}
		}
	}
	return out, nil
}
