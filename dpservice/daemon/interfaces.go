// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"sync"

	"dpservice/capture"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/flow"
	"dpservice/dpservice/nic"
	"dpservice/dpservice/tunnel"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// interfaces are those of vnet. A new one's guest is greeted at once, so that neither it nor packets for it have to wait;
// captures and rules end with their interface.
type interfaces struct {
	*vnet.Manager
	capture  *capture.Manager
	flows    *flow.Manager         // nil without offload
	tunnels  *tunnel.Manager       // nil without offload
	checks   func(vni uint32) bool // who sends to a network from the wire
	greet    func(port uint16)
	portName func(id uint16) string

	changing *sync.Mutex // one change at a time: an id must not come to mean another interface while it is deleted
}

func (d *daemon) interfaces() interfaces {
	return interfaces{
		Manager: d.vnet, capture: d.capture, flows: d.flows, tunnels: d.tunnels,
		checks: d.cfg.Underlay.ChecksSource, greet: d.slow.Greet, portName: d.portName,
		changing: &sync.Mutex{},
	}
}

// CreateInterface creates an interface and then, where anybody may send to it and as its packets find their way without them, the rules
// of its tunnels. Where that is checked, they come with the flows. If the NIC
// refuses them there is no interface, unless the error is ROLLBACK_FAILED: then it is to be deleted.
func (i interfaces) CreateInterface(req vnet.CreateRequest) (vnet.Interface, error) {
	i.changing.Lock()
	defer i.changing.Unlock()
	created, err := i.Manager.CreateInterface(req)
	if err != nil {
		return vnet.Interface{}, err
	}
	if err := i.keepTunnels(created); err != nil {
		var failed *ruleset.ApplyError
		if undo := i.deleteInterface(created); undo == nil && errors.As(err, &failed) {
			failed.Undo = nil // what was left of it is done
		} else if undo != nil {
			err = fault.Wrap(errors.Join(err, undo), fault.RollbackFailed, created.ID, "interface %s stays, without all of its rules: delete it", created.ID)
		}
		return vnet.Interface{}, i.refused(created.ID, "cannot create interface "+created.ID, err)
	}
	i.greet(created.Port)
	return created, nil
}

// DeleteInterface takes the rules of the interface's flows out of the NIC, then those of its tunnels and those that capture it, and
// then deletes it. If the NIC keeps a rule, so does dpservice the interface; the flows come back with their next packets. After a
// ROLLBACK_FAILED the interface lacks rules, and goes on in software.
func (i interfaces) DeleteInterface(id string) error {
	i.changing.Lock()
	defer i.changing.Unlock()
	found, err := i.Interface(id)
	if err != nil {
		return err
	}
	return i.refused(id, "cannot delete interface "+id, i.deleteInterface(found))
}

func (i interfaces) deleteInterface(found vnet.Interface) error {
	return i.capture.DeleteInterface(found.ID, func(endCapture func() error) error {
		deleteIt := func() error {
			if err := endCapture(); err != nil {
				return err
			}
			return i.Manager.DeleteInterface(found.ID)
		}
		if i.flows == nil {
			return deleteIt()
		}
		return i.flows.ReleasePort(found.Port, func() error { return i.withoutTunnels(found, deleteIt) })
	})
}

// keepTunnels has the NIC decapsulate all that comes for an interface to which anybody may send.
func (i interfaces) keepTunnels(of vnet.Interface) error {
	a, ok := i.OnPort(of.Port)
	if i.tunnels == nil || !ok || i.checks(a.VNI) {
		return nil
	}
	return i.tunnels.Keep(graph.Tunnel{Interface: a.Index, Underlay: a.UnderlayIP}, nic.InnerTypes...)
}

// withoutTunnels does something while the NIC decapsulates nothing for an interface. If it fails, it is as before.
func (i interfaces) withoutTunnels(of vnet.Interface, do func() error) error {
	if err := i.tunnels.RemoveInterface(of.UnderlayIP); err != nil {
		return err
	}
	err := do()
	if err == nil {
		return nil
	}
	if undo := i.keepTunnels(of); undo != nil {
		return fault.Wrap(errors.Join(err, undo), fault.RollbackFailed, of.ID, "interface %s goes on without all of its rules", of.ID)
	}
	return err
}

// refused gives an error of the NIC's its reason and words; others have theirs.
func (i interfaces) refused(id, what string, err error) error {
	var failed *ruleset.ApplyError
	if !errors.As(err, &failed) {
		return err
	}
	reason := fault.RuleRejected
	if len(failed.Undo) > 0 || fault.Is(err, fault.RollbackFailed) {
		reason = fault.RollbackFailed
	}
	f := fault.Wrap(err, reason, id, "%s: the NIC refuses a change of port %s", what, i.portName(failed.Op.Port))
	f.Rule = failed.Op.Rule.String()
	var flow *rteflow.Error
	if errors.As(err, &flow) {
		f.RTEFlowError, f.Errno = flow.Words(), flow.Errno
	}
	return f
}
