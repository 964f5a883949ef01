// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"strings"
	"time"

	"dpservice/cgo/mempool"
	"dpservice/cgo/ringport"
	"dpservice/test/plugin"
)

const (
	poolSize  = 4095
	patience  = 20 * time.Second      // until a NIC has given a buffer back: on a busy machine its thread may wait
	lateFrame = 20 * time.Millisecond // what a frame that the reference wants may take longer than the others
	maybeLate = time.Millisecond      // likewise one that may come or not
)

// eswitch is net_eswitch, whose far sides are in the test's hands.
type eswitch struct {
	ports
	far  []*ringport.Port
	pool *mempool.Pool
	buf  []byte
}

// eswitchArgs are EAL's arguments with those that net_eswitch needs.
func eswitchArgs(args []string) ([]string, error) {
	path, remove, err := plugin.Install()
	if err != nil {
		return nil, err
	}
	undo = append(undo, remove)
	return append(args, "-d", path), nil
}

// newEswitch makes the far sides and the NIC, as this card ("" is the usual one), and starts its ports.
func newEswitch(card string) (*eswitch, error) {
	n := &eswitch{buf: make([]byte, ringport.MaxFrame)}
	// Without a cache, so that every buffer not in use counts as available.
	pool, err := mempool.NewPktmbuf("eswitch", poolSize, 0, 0, mempool.DataRoom)
	if err != nil {
		return nil, err
	}
	n.pool = pool
	devargs := []string{"dv_xmeta_en=1"}
	if card != "" {
		devargs = append(devargs, "card="+card)
	}
	var names []string
	for _, p := range testPorts {
		ring, err := ringport.New(p.name, n.pool)
		if err != nil {
			return nil, err
		}
		n.far = append(n.far, ring)
		devargs = append(devargs, p.name+"="+ringport.EthdevName(p.name))
		switch {
		case p.uplink:
			names = append(names, "net_eswitch0")
		case p.domain:
			names = append(names, "net_eswitch0_representor_"+p.name)
		default:
			names = append(names, "net_eswitch0_"+p.name)
		}
	}
	if err := ringport.Attach("net_eswitch0", strings.Join(devargs, ",")); err != nil {
		return nil, err
	}
	n.ports, err = newPorts(names, n.pool)
	return n, err
}

func (n *eswitch) name() string { return "net_eswitch" }

func (n *eswitch) hides(Output) bool { return false }

func (n *eswitch) countsLate() bool { return false }

// exchange returns once the NIC holds no frame any more and at least want have come, or after some patience, which is
// little for the last perhaps of these.
func (n *eswitch) exchange(shots []shot, want, perhaps int) ([]Output, error) {
	for _, s := range shots {
		var err error
		if s.transmit {
			err = ringport.SendBy(n.id(s.port), n.pool, s.frame)
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
func (n *eswitch) drain(out []Output) ([]Output, error) {
	for port, far := range n.far {
		for {
			frame, err := far.Receive()
			if err != nil {
				return nil, err
			}
			if frame == nil {
				break
			}
			out = append(out, Output{Port: uint16(port), Queue: FarSide, Frame: frame})
		}
	}
	return n.received(out, n.buf)
}
