// SPDX-License-Identifier: Apache-2.0

// Package nic knows how rules are written for the NIC at hand: how they name ports, which port they go through,
// and what rules the default group has.
package nic

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/port"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// InGroup is where a rule of the transfer domain is. rteflow knows groups and priorities as DPDK's plain numbers, since
// their meaning is this application's: here and in JumpTo the one becomes the other.
func InGroup(g nicgroup.Group, p nicgroup.Priority) rteflow.Attr {
	return rteflow.Attr{Group: uint32(g), Priority: uint32(p), Transfer: true}
}

// JumpTo sends packets on to a group of the transfer domain.
func JumpTo(g nicgroup.Group) rteflow.Jump { return rteflow.Jump{Group: uint32(g)} }

// Driver is the part of package rteflow that a NIC needs. RTEFlow is the real one.
type Driver interface {
	ruleset.Driver
	TransferProxy(port uint16) (uint16, error)
	Aged(port uint16) ([]uint64, error)
	Isolate(port uint16, on bool) error
}

// RTEFlow is the Driver of this process's ports.
type RTEFlow struct{ rteflow.NIC }

// TransferProxy implements Driver.
func (RTEFlow) TransferProxy(id uint16) (uint16, error) { return rteflow.TransferProxy(id) }

// Aged implements Driver.
func (RTEFlow) Aged(id uint16) ([]uint64, error) { return rteflow.Aged(id) }

// Isolate implements Driver.
func (RTEFlow) Isolate(id uint16, on bool) error { return rteflow.Isolate(id, on) }

// A NIC is the E-Switch that PF0 belongs to. It is a ruleset.Driver which sends transfer rules through the port's
// proxy.
type NIC struct {
	driver  Driver
	ports   []port.Port       // of the E-Switch; PF0 first
	proxies map[uint16]uint16 // by port id
	sharing []uint16          // other uplinks, whose packets the kernel would get
	prefix  netip.Prefix      // the node's underlay addresses
	item    bool              // the driver takes the item represented_port
	action  bool              // and the action
	lastHop error             // why it does not take lastHopRules

	mu     sync.Mutex
	direct map[created]struct{} // the installed rules that did not go through their port's proxy: few, of other domains
}

// counterLags says by driver how old what a rule's counter shows may be. net_mlx5 reads the card's counters in the
// background, each once a second (MLX5_POOL_QUERY_FREQ_US), and what a rule has counted since is lost with the rule.
var counterLags = map[string]time.Duration{"mlx5_pci": 1200 * time.Millisecond}

// CounterLag is how long to wait before a counter that counts no more shows all that it has counted.
func CounterLag(driver string) time.Duration { return counterLags[driver] }

type created struct {
	port   uint16
	handle rteflow.Handle
}

// Isolate makes the uplinks that share their traffic with the kernel receive only what rules name. It comes before
// the ports are configured, and only where there will be rules: an uplink that takes none is refused here, by name.
// Representors have a kernel twin too, but what no rule takes is to come here: an isolated one would leave its
// guest's packets to the kernel.
func Isolate(driver Driver, ports []port.Port, hasKernelTwin func(id uint16) bool) error {
	if err := inSwitchdev(ports[0]); err != nil {
		return err
	}
	for _, p := range ports {
		if !isShared(p, hasKernelTwin) {
			continue
		}
		if err := driver.Isolate(p.ID, true); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return nil
}

func isShared(p port.Port, hasKernelTwin func(id uint16) bool) bool {
	return p.Role == port.PF && hasKernelTwin(p.ID)
}

// Probe finds out how the E-Switch of ports[0], the started uplink, wants its rules. What comes from the wire to the
// /64 of node, an underlay address, is this node's.
func Probe(driver Driver, ports []port.Port, node netip.Addr, hasKernelTwin func(id uint16) bool) (*NIC, error) {
	prefix, err := node.Prefix(64)
	if err != nil {
		return nil, fmt.Errorf("underlay address %s: %w", node, err)
	}
	n := &NIC{driver: driver, prefix: prefix, proxies: map[uint16]uint16{}, direct: map[created]struct{}{}}
	uplink := ports[0]
	if err := inSwitchdev(uplink); err != nil {
		return nil, err
	}
	for _, p := range ports {
		if p.ID != uplink.ID && isShared(p, hasKernelTwin) {
			n.sharing = append(n.sharing, p.ID)
		}
		if p.SwitchDomain == nil || *p.SwitchDomain != *uplink.SwitchDomain {
			continue
		}
		proxy, err := driver.TransferProxy(p.ID)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		n.ports = append(n.ports, p)
		n.proxies[p.ID] = proxy
	}
	if err := n.probeNames(); err != nil {
		return nil, err
	}
	n.lastHop = n.probeLastHop()
	return n, nil
}

func inSwitchdev(uplink port.Port) error {
	if uplink.SwitchDomain == nil {
		return fmt.Errorf("%s is not in switchdev mode: it has no switch domain; switch it over, or turn offload off",
			uplink.Name)
	}
	return nil
}

// probeNames tries the current names of ports in rules first, and then the older ones.
func (n *NIC) probeNames() error {
	uplink := n.ports[0].ID
	try := func(r rteflow.Rule) error { return ruleset.Try(n, uplink, r) }
	jump := func() rteflow.Rule {
		return rteflow.Rule{
			Attr:    InGroup(nicgroup.Default, nicgroup.BasePriority),
			Pattern: []rteflow.Item{n.PortItem(uplink), rteflow.Eth{}},
			Actions: []rteflow.Action{JumpTo(nicgroup.VNET)},
		}
	}
	send := func() rteflow.Rule {
		to := n.ports[len(n.ports)-1].ID
		return rteflow.Rule{
			Attr:    InGroup(nicgroup.VNET, 0),
			Pattern: []rteflow.Item{n.PortItem(uplink), rteflow.Eth{}},
			Actions: []rteflow.Action{n.PortAction(to)},
		}
	}
	if err := probe(&n.item, jump, try); err != nil {
		return fmt.Errorf("the NIC takes neither represented_port nor port_id in a pattern: %w", err)
	}
	if err := probe(&n.action, send, try); err != nil {
		return fmt.Errorf("the NIC takes neither represented_port nor port_id as an action: %w", err)
	}
	return nil
}

func (n *NIC) probeLastHop() error {
	for _, p := range n.ports {
		for _, r := range n.lastHopRules(p) {
			if err := ruleset.Try(n, r.Port, r.Spec); err != nil {
				return err
			}
		}
	}
	return nil
}

// LastHop is nil if the NIC leaves to the software the packets of guests that have no hop left, or says why it
// cannot. Then it forwards those of offloaded flows, with a TTL of 0.
func (n *NIC) LastHop() error { return n.lastHop }

// probe leaves *current true if a rule with the current name passes, and else false if one with the older name does.
func probe(current *bool, rule func() rteflow.Rule, try func(rteflow.Rule) error) error {
	*current = true
	if try(rule()) == nil {
		return nil
	}
	*current = false
	return try(rule())
}

// Names says how rules name ports: "represented_port", "port_id", or what the item and the action are called.
func (n *NIC) Names() string {
	name := map[bool]string{true: "represented_port", false: "port_id"}
	if n.item == n.action {
		return name[n.item]
	}
	return fmt.Sprintf("item %s, action %s", name[n.item], name[n.action])
}

// Has reports whether the port belongs to the E-Switch, so that it can have transfer rules.
func (n *NIC) Has(id uint16) bool {
	_, ok := n.proxies[id]
	return ok
}

// PortItem matches the packets that come from behind a port.
func (n *NIC) PortItem(id uint16) rteflow.Item {
	if n.item {
		return rteflow.RepresentedPort{Port: id}
	}
	return rteflow.PortID{Port: id}
}

// AnyPort matches the packets that come from behind any port of the E-Switch.
func (n *NIC) AnyPort() rteflow.Item {
	if n.item {
		return rteflow.AnyPort{}
	}
	return rteflow.AnyPortID{}
}

// PortAction sends a packet to what is behind a port.
func (n *NIC) PortAction(id uint16) rteflow.Action {
	if n.action {
		return rteflow.ToRepresentedPort{Port: id}
	}
	return rteflow.ToPortID{Port: id}
}

// CreateBatch implements ruleset.Driver.
func (n *NIC) CreateBatch(id uint16, rules []rteflow.Rule) ([]rteflow.Handle, error) {
	handles := make([]rteflow.Handle, 0, len(rules))
	for len(rules) > 0 {
		via := n.through(id, rules[0])
		run := 1
		for run < len(rules) && n.through(id, rules[run]) == via {
			run++
		}
		created, err := n.driver.CreateBatch(via, rules[:run])
		n.noteDirect(id, via, created)
		handles = append(handles, created...)
		if err != nil {
			return handles, err
		}
		rules = rules[run:]
	}
	return handles, nil
}

// noteDirect remembers rules that were created on a port itself although the port has another for its proxy.
func (n *NIC) noteDirect(id, via uint16, handles []rteflow.Handle) {
	if via != id || n.proxy(id) == id {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range handles {
		n.direct[created{id, h}] = struct{}{}
	}
}

// DestroyBatch implements ruleset.Driver.
func (n *NIC) DestroyBatch(id uint16, handles []rteflow.Handle) (int, error) {
	for done := 0; done < len(handles); {
		via, run := n.runThrough(id, handles[done:])
		destroyed, err := n.driver.DestroyBatch(via, handles[done:done+run])
		n.forgetDirect(id, via, handles[done:done+destroyed])
		done += destroyed
		if err != nil {
			return done, err
		}
	}
	return len(handles), nil
}

// forgetDirect forgets removed rules that noteDirect has remembered.
func (n *NIC) forgetDirect(id, via uint16, handles []rteflow.Handle) {
	if via != id || n.proxy(id) == id {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range handles {
		delete(n.direct, created{id, h})
	}
}

// Query implements ruleset.Driver.
func (n *NIC) Query(id uint16, h rteflow.Handle) (rteflow.Counters, error) {
	return n.driver.Query(n.createdThrough(id, h), h)
}

// QueryAge implements ruleset.Driver.
func (n *NIC) QueryAge(id uint16, h rteflow.Handle) (rteflow.AgeState, error) {
	return n.driver.QueryAge(n.createdThrough(id, h), h)
}

// Aged returns the contexts of the rules that have aged, on whatever port.
func (n *NIC) Aged() ([]uint64, error) {
	var all []uint64
	asked := map[uint16]bool{}
	for _, p := range n.ports {
		via := n.proxies[p.ID]
		if asked[via] {
			continue
		}
		asked[via] = true
		contexts, err := n.driver.Aged(via)
		if err != nil {
			return all, err
		}
		all = append(all, contexts...)
	}
	return all, nil
}

// through is the port through which a new rule for port id goes.
func (n *NIC) through(id uint16, r rteflow.Rule) uint16 {
	if r.Transfer {
		return n.proxy(id)
	}
	return id
}

// proxy is the port through which the transfer rules of port id go.
func (n *NIC) proxy(id uint16) uint16 {
	if proxy, ok := n.proxies[id]; ok {
		return proxy
	}
	return id
}

// createdThrough is the port through which an installed rule of port id went.
func (n *NIC) createdThrough(id uint16, h rteflow.Handle) uint16 {
	via, _ := n.runThrough(id, []rteflow.Handle{h})
	return via
}

// runThrough is the port through which the first of port id's installed rules went, and how many in a row went through
// it.
func (n *NIC) runThrough(id uint16, handles []rteflow.Handle) (via uint16, run int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	isDirect := func(h rteflow.Handle) bool { _, ok := n.direct[created{id, h}]; return ok }
	direct := isDirect(handles[0])
	for run = 1; run < len(handles) && isDirect(handles[run]) == direct; run++ {
	}
	if direct {
		return id, run
	}
	return n.proxy(id), run
}
