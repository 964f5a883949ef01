// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dpservice/cgo/eal"
	"dpservice/cgo/ethdev"
	"dpservice/cgo/mempool"
	"dpservice/cgo/ringport"
	"dpservice/rteflow"
	"dpservice/test/plugin"
)

// testPorts are the NIC's: devarg, name, and place in the switch.
var testPorts = []struct {
	devarg, name   string
	domain, uplink bool
}{
	{"pf0", "net_eswitch0", true, true},
	{"pf1", "net_eswitch0_pf1", false, false},
	{"vf0", "net_eswitch0_representor_vf0", true, false},
	{"vf1", "net_eswitch0_representor_vf1", true, false},
	{"vf5", "net_eswitch0_representor_vf5", true, false},
}

const (
	poolSize  = 4095
	rxQueues  = 2
	patience  = 5 * time.Second       // with a NIC that does not give a buffer back
	lateFrame = 20 * time.Millisecond // what a frame that the reference wants may take longer than the others
	maybeLate = time.Millisecond      // likewise one that may come or not
)

// realNIC is the NIC under test.
type realNIC struct {
	ports []Port
	far   map[uint16]*ringport.Port
	pool  *mempool.Pool
	buf   []byte
	can   capabilities
	// undo ends what start began, last first.
	undo []func() error
}

// theNIC is the one of the process: EAL starts once.
var theNIC realNIC

func TestMain(m *testing.M) {
	code := 1
	if err := theNIC.start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	for _, undo := range slices.Backward(theNIC.undo) {
		if err := undo(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func (n *realNIC) start() error {
	path, remove, err := plugin.Install()
	if err != nil {
		return err
	}
	n.undo = append(n.undo, remove)
	err = eal.Init([]string{
		"--no-huge", "-m", "128", "--no-pci", "--file-prefix", fmt.Sprintf("model-test-%d", os.Getpid()), "-l", "0", "-d", path,
	})
	if err != nil {
		return err
	}
	n.undo = append(n.undo, eal.Cleanup)
	n.buf = make([]byte, ringport.MaxFrame)
	// Without a cache, so that every buffer not in use counts as available.
	n.pool, err = mempool.NewPktmbuf("model", poolSize, 0, 0, mempool.DataRoom)
	if err != nil {
		return err
	}
	return n.attach()
}

// attach makes the far sides and the NIC, and starts its ports.
func (n *realNIC) attach() error {
	n.far = map[uint16]*ringport.Port{}
	devargs := make([]string, 0, len(testPorts))
	far := make([]*ringport.Port, 0, len(testPorts))
	for _, p := range testPorts {
		ring, err := ringport.New(p.devarg, n.pool)
		if err != nil {
			return err
		}
		far = append(far, ring)
		devargs = append(devargs, p.devarg+"="+ringport.EthdevName(p.devarg))
	}
	if err := ringport.Attach("net_eswitch0", strings.Join(append(devargs, "dv_xmeta_en=1"), ",")); err != nil {
		return err
	}
	for i, p := range testPorts {
		id, err := ethdev.Find(p.name)
		if err != nil {
			return err
		}
		n.undo = append(n.undo, func() error { return errors.Join(ethdev.Stop(id), ethdev.Close(id)) })
		err = errors.Join(ethdev.Configure(id, ethdev.Config{RxQueues: rxQueues, TxQueues: 1, RxDescs: 512, TxDescs: 512, Pool: n.pool}), ethdev.Start(id))
		if err != nil {
			return err
		}
		info, err := ethdev.GetInfo(id)
		if err != nil {
			return err
		}
		n.far[id] = far[i]
		n.ports = append(n.ports, Port{
			ID: id, Name: p.name, Switch: p.domain, Uplink: p.uplink, MTU: int(info.MTU), Queues: rxQueues,
		})
	}
	n.probe()
	return nil
}

// capabilities are actions that not every version of the NIC has.
type capabilities struct{ setAddress, popVLAN bool }

// probe asks the NIC which actions it has.
func (n *realNIC) probe() {
	has := func(a rteflow.Action, pattern ...rteflow.Item) bool {
		return rteflow.Validate(n.ports[0].ID, rteflow.Rule{
			Attr: rteflow.Attr{Transfer: true}, Pattern: append([]rteflow.Item{rteflow.Eth{}}, pattern...),
			Actions: []rteflow.Action{a, rteflow.ToRepresentedPort{Port: n.ports[0].ID}},
		}) == nil
	}
	n.can.setAddress = has(rteflow.SetTPSrc{}, rteflow.IPv4{}, rteflow.UDP{}) &&
		has(rteflow.SetIPv6Src{Addr: netip.IPv6Unspecified()}, rteflow.IPv6{}, rteflow.UDP{})
	n.can.popVLAN = has(rteflow.PopVLAN{}, rteflow.VLAN{})
}

// reset takes all rules away and isolates these ports only.
func (n *realNIC) reset(isolated map[uint16]bool) error {
	for i := range n.ports {
		p := &n.ports[i]
		if err := rteflow.Flush(p.ID); err != nil {
			return err
		}
		if p.Isolated == isolated[p.ID] {
			continue
		}
		p.Isolated = isolated[p.ID]
		if err := errors.Join(ethdev.Stop(p.ID), rteflow.Isolate(p.ID, p.Isolated), ethdev.Start(p.ID)); err != nil {
			return err
		}
	}
	return nil
}

// shot is a frame from a port's far side or, by the application, from the port itself.
type shot struct {
	port     uint16
	frame    []byte
	segment  int
	transmit bool
}

// exchange gives frames to the NIC and returns what comes out of it, once it holds none of them any more and at least
// want have come, or after some patience, which is little for the last perhaps of these.
func (n *realNIC) exchange(shots []shot, want, perhaps int) ([]Output, error) {
	for _, s := range shots {
		var err error
		if s.transmit {
			err = ringport.SendBy(s.port, n.pool, s.frame)
		} else {
			err = n.far[s.port].Send(s.frame, s.segment)
		}
		if err != nil {
			return nil, err
		}
	}
	var out []Output
	var settled time.Time
	for begin := time.Now(); ; {
		idle := n.pool.Available() == poolSize
		var err error
		if out, err = n.drain(out); err != nil {
			return nil, err
		}
		switch {
		case !idle:
			settled = time.Time{}
		case len(out) >= want || !settled.IsZero() && time.Since(settled) > lateFrame:
			return out, nil
		case len(out) >= want-perhaps && !settled.IsZero() && time.Since(settled) > maybeLate:
			return out, nil
		case settled.IsZero():
			settled = time.Now()
		}
		if time.Since(begin) > patience {
			return nil, fmt.Errorf("the NIC holds %d buffers for more than %v", poolSize-n.pool.Available(), patience)
		}
		time.Sleep(20 * time.Microsecond)
	}
}

// drain appends all that has come out of the NIC.
func (n *realNIC) drain(out []Output) ([]Output, error) {
	for _, p := range n.ports {
		for {
			frame, err := n.far[p.ID].Receive()
			if err != nil {
				return nil, err
			}
			if frame == nil {
				break
			}
			out = append(out, Output{Port: p.ID, Queue: FarSide, Frame: frame})
		}
		for q := range uint16(rxQueues) {
			for {
				frame, err := ringport.ReceiveFrom(p.ID, q, n.buf)
				if err != nil {
					return nil, err
				}
				if frame == nil {
					break
				}
				out = append(out, Output{Port: p.ID, Queue: int(q), Frame: frame})
			}
		}
	}
	return out, nil
}

// entropies remembers the UDP source port that the NIC chose for a packet: for the same one it is always the same.
type entropies map[string]uint16

// compare tells how the NIC's outputs differ from the reference's, "" if they do not. Their order does not matter.
func (e entropies) compare(want, got []Output) string {
	want = mandatoryFirst(want)
	m := matching{e: e, want: want, got: got, owner: map[int]int{}}
	var missing, surplus []Output
	for i, w := range want {
		if !m.place(i, map[int]bool{}) && !w.Perhaps {
			missing = append(missing, w)
		}
	}
	for j, g := range got {
		if _, ok := m.owner[j]; !ok {
			surplus = append(surplus, g)
		}
	}
	if len(missing) == 0 && len(surplus) == 0 {
		return ""
	}
	return "missing:" + describe(missing) + "\nsurplus:" + describe(surplus)
}

// matching finds for each wanted output one that came.
type matching struct {
	e         entropies
	want, got []Output
	owner     map[int]int // the wanted one by the place of the one that came
}

// place finds one for the i-th, for which others may have to take another one. None that has one loses it.
func (m *matching) place(i int, tried map[int]bool) bool {
	for j, g := range m.got {
		if tried[j] || !m.e.same(m.want[i], g) {
			continue
		}
		tried[j] = true
		if other, taken := m.owner[j]; !taken || m.place(other, tried) {
			m.owner[j] = i
			return true
		}
	}
	return false
}

// mandatoryFirst has the outputs that must be there before those that may be.
func mandatoryFirst(outputs []Output) []Output {
	var must, may []Output
	for _, o := range outputs {
		if o.Perhaps {
			may = append(may, o)
		} else {
			must = append(must, o)
		}
	}
	return append(must, may...)
}

// queues are those by which an output may come.
func queues(o Output) []int {
	if o.Queue != AnyQueue {
		return []int{o.Queue}
	}
	var all []int
	for q := range rxQueues {
		all = append(all, q)
	}
	return all
}

func (e entropies) same(want, got Output) bool {
	if want.Port != got.Port || !slices.Contains(queues(want), got.Queue) || len(want.Frame) != len(got.Frame) {
		return false
	}
	expected := slices.Clone(want.Frame)
	for _, at := range want.Entropy {
		port := be16(got.Frame, at)
		if port < 49152 {
			return false
		}
		put16(expected, at, port)
	}
	if !bytes.Equal(expected, got.Frame) {
		return false
	}
	if len(want.Entropy) == 0 {
		return true
	}
	inner, port := string(got.Frame[want.Inner:]), be16(got.Frame, want.Entropy[len(want.Entropy)-1])
	if before, ok := e[inner]; ok && before != port {
		return false
	}
	e[inner] = port
	return true
}

// order tells what left in another order than it came: from each place to each place the frames keep theirs.
func (e entropies) order(want, got []Output) string {
	type way struct{ from, port, queue int }
	at := map[way]int{} // where in got the next frame of that way may be
	for _, w := range want {
		if w.Perhaps {
			continue
		}
		if !slices.ContainsFunc(queues(w), func(queue int) bool {
			k := way{w.From, int(w.Port), queue}
			i := slices.IndexFunc(got[at[k]:], func(g Output) bool { return g.Queue == queue && e.same(w, g) })
			at[k] += i + 1
			return i >= 0
		}) {
			return "out of order:" + describe([]Output{w})
		}
	}
	return ""
}

func describe(outputs []Output) string {
	var b strings.Builder
	for _, o := range outputs {
		where := fmt.Sprintf("queue %d", o.Queue)
		switch o.Queue {
		case FarSide:
			where = "far side"
		case AnyQueue:
			where = "any queue"
		}
		fmt.Fprintf(&b, "\n  port %d, %s: %x", o.Port, where, o.Frame)
	}
	if len(outputs) == 0 {
		return " none"
	}
	return b.String()
}
