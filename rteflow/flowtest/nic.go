// SPDX-License-Identifier: Apache-2.0

// Package flowtest is a NIC made of memory, for tests of what is built upon rteflow: it refuses, it fails, it blocks
// on request, and it notices a caller that uses a dead handle.
package flowtest

import (
	"fmt"
	"slices"
	"sync"
	"syscall"

	"dpservice/rteflow"
)

// Call is one call of the NIC's methods.
type Call struct {
	N      int    // 1 for the first call of those that change something or validate
	Method string // "create", "destroy"
	Port   uint16
	Rule   rteflow.Rule
}

// Installed is a rule in the NIC.
type Installed struct {
	Port     uint16
	Rule     rteflow.Rule
	Counters rteflow.Counters
}

// NIC implements ruleset.Driver and nic.Driver. The zero NIC is empty and agrees to everything. It is safe for
// concurrent use; its exported fields are set before.
type NIC struct {
	Proxy      *uint16             // manages the transfer rules of all ports; nil: each port its own
	AgedByPort map[uint16][]uint64 // what Aged returns

	mu     sync.Mutex
	hook   func(Call) error
	calls  []Call
	rules  map[rteflow.Handle]*Installed
	next   rteflow.Handle
	misuse []string

	isolated []uint16
}

// OnCall sets a function that runs before each call and makes it fail with its error; it may block. nil agrees to
// everything.
func (n *NIC) OnCall(hook func(Call) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hook = hook
}

// FailCalls makes the calls with these numbers, counted from now on, fail with the error of a driver that
// is out of memory. It replaces the function of OnCall.
func (n *NIC) FailCalls(numbers ...int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	start := len(n.calls)
	n.hook = func(c Call) error {
		if slices.Contains(numbers, c.N-start) {
			return Refusal(c, syscall.ENOMEM, "told to fail")
		}
		return nil
	}
}

// Refusal is a driver's error for a call.
func Refusal(c Call, errno syscall.Errno, message string) *rteflow.Error {
	return &rteflow.Error{Op: c.Method, Port: c.Port, Type: rteflow.ErrorUnspecified, Message: message, Errno: errno}
}

// Calls returns all calls so far, those that failed included.
func (n *NIC) Calls() []Call {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.calls)
}

// Rules returns the installed rules, the oldest first.
func (n *NIC) Rules() []Installed {
	n.mu.Lock()
	defer n.mu.Unlock()
	var handles []rteflow.Handle
	for h := range n.rules {
		handles = append(handles, h)
	}
	slices.Sort(handles)
	rules := make([]Installed, len(handles))
	for i, h := range handles {
		rules[i] = *n.rules[h]
	}
	return rules
}

// Hit adds to the counters of every rule on the port that match accepts.
func (n *NIC) Hit(port uint16, match func(rteflow.Rule) bool, c rteflow.Counters) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.rules {
		if r.Port == port && match(r.Rule) {
			r.Counters.Packets += c.Packets
			r.Counters.Bytes += c.Bytes
		}
	}
}

// Misuse lists what no caller may do and one did: destroying or querying a rule that is not installed on the port.
func (n *NIC) Misuse() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.misuse)
}

// CreateBatch installs the rules until the hook, which sees a call for each, refuses one.
func (n *NIC) CreateBatch(port uint16, rules []rteflow.Rule) ([]rteflow.Handle, error) {
	var handles []rteflow.Handle
	for _, r := range rules {
		if err := n.called("create", port, r); err != nil {
			return handles, err
		}
		handles = append(handles, n.install(port, r))
	}
	return handles, nil
}

func (n *NIC) install(port uint16, r rteflow.Rule) rteflow.Handle {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rules == nil {
		n.rules = map[rteflow.Handle]*Installed{}
	}
	n.next++
	n.rules[n.next] = &Installed{Port: port, Rule: r.Whole()}
	return n.next
}

// DestroyBatch removes the rules until the hook, which sees a call for each, refuses one.
func (n *NIC) DestroyBatch(port uint16, handles []rteflow.Handle) (int, error) {
	for i, h := range handles {
		if err := n.destroy(port, h); err != nil {
			return i, err
		}
	}
	return len(handles), nil
}

func (n *NIC) destroy(port uint16, h rteflow.Handle) error {
	r, err := n.find("destroy", port, h)
	if err != nil {
		return err
	}
	if err := n.called("destroy", port, r.Rule); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.rules, h)
	return nil
}

// Query returns the counters of a rule that has a Count action.
func (n *NIC) Query(port uint16, h rteflow.Handle) (rteflow.Counters, error) {
	st, err := n.find("query", port, h)
	if err != nil {
		return rteflow.Counters{}, err
	}
	if !slices.Contains(st.Rule.Actions, rteflow.Action(rteflow.Count{})) {
		return rteflow.Counters{}, Refusal(Call{Method: "query", Port: port}, syscall.ENOTSUP, "the rule does not count")
	}
	return st.Counters, nil
}

// QueryAge returns the age of a rule that has an Age action: a packet has just hit it.
func (n *NIC) QueryAge(port uint16, h rteflow.Handle) (rteflow.AgeState, error) {
	st, err := n.find("query_age", port, h)
	if err != nil {
		return rteflow.AgeState{}, err
	}
	if !slices.ContainsFunc(st.Rule.Actions, func(a rteflow.Action) bool { _, ok := a.(rteflow.Age); return ok }) {
		return rteflow.AgeState{}, Refusal(Call{Method: "query_age", Port: port}, syscall.ENOTSUP, "the rule does not age")
	}
	return rteflow.AgeState{IdleKnown: true}, nil
}

// TransferProxy is Proxy, or the port itself.
func (n *NIC) TransferProxy(port uint16) (uint16, error) {
	if n.Proxy != nil {
		return *n.Proxy, nil
	}
	return port, nil
}

// Aged returns the port's contexts in AgedByPort.
func (n *NIC) Aged(port uint16) ([]uint64, error) { return n.AgedByPort[port], nil }

// Isolate notes the port.
func (n *NIC) Isolate(port uint16, _ bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isolated = append(n.isolated, port)
	return nil
}

// Isolated lists the ports of the calls of Isolate.
func (n *NIC) Isolated() []uint16 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.isolated)
}

// called records a call and asks the hook, which may block, without holding the lock.
func (n *NIC) called(method string, port uint16, r rteflow.Rule) error {
	n.mu.Lock()
	call := Call{len(n.calls) + 1, method, port, r}
	n.calls = append(n.calls, call)
	hook := n.hook
	n.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(call)
}

func (n *NIC) find(method string, port uint16, h rteflow.Handle) (Installed, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.rules[h]
	if st == nil || st.Port != port {
		what := fmt.Sprintf("%s of rule %d on port %d, which is not installed", method, h, port)
		n.misuse = append(n.misuse, what)
		return Installed{}, Refusal(Call{Method: method, Port: port}, syscall.EINVAL, what)
	}
	return *st, nil
}
