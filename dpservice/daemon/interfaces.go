// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"slices"
	"sync"

	"dpservice/capture"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/flow"
	"dpservice/dpservice/nic"
	"dpservice/dpservice/vnet"
	"dpservice/rteflow"
	"dpservice/rteflow/ruleset"
)

// interfaces are those of vnet. A new one's guest is greeted at once, so that neither it nor packets for it have to wait;
// captures and rules end with their interface.
type interfaces struct {
	*vnet.Manager
	capture  *capture.Manager
	flows    *flow.Manager // nil without offload
	nic      *nic.NIC      // nil without offload
	rules    *ruleset.Set
	greet    func(port uint16)
	portName func(id uint16) string

	changing *sync.Mutex // one change at a time: an id must not come to mean another interface while it is deleted
}

func (d *daemon) interfaces() interfaces {
	return interfaces{
		Manager: d.vnet, capture: d.capture, flows: d.flows, nic: d.nic, rules: d.rules, greet: d.slow.Greet, portName: d.portName,
		changing: &sync.Mutex{},
	}
}

// CreateInterface creates an interface and then, as its packets find their way without them, its rules in the NIC. If the NIC
// refuses them there is no interface, unless the error is ROLLBACK_FAILED: then it is to be deleted.
func (i interfaces) CreateInterface(req vnet.CreateRequest) (vnet.Interface, error) {
	i.changing.Lock()
	defer i.changing.Unlock()
	created, err := i.Manager.CreateInterface(req)
	if err != nil {
		return vnet.Interface{}, err
	}
	if err := i.addRules(created); err != nil {
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

// DeleteInterface takes the interface's own rules out of the NIC, then those of its flows and those that capture it, and then
// deletes it. If the NIC keeps a rule, so does dpservice the interface; the flows come back with their next packets. After a
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
		return i.withoutRules(found, func() error { return i.flows.ReleasePort(found.Port, deleteIt) })
	})
}

// addRules adds those of an interface's own rules that do not stand.
func (i interfaces) addRules(of vnet.Interface) error {
	a, ok := i.OnPort(of.Port)
	if i.nic == nil || !ok {
		return nil
	}
	ops := i.nic.InterfaceRules(a.Index, a.UnderlayIP)
	return i.rules.Apply(slices.DeleteFunc(ops, func(op ruleset.Op) bool { return i.rules.Has(op.Port, op.Name) }))
}

// withoutRules does something while an interface's own rules do not stand. If it fails they do again.
func (i interfaces) withoutRules(of vnet.Interface, do func() error) error {
	a, _ := i.OnPort(of.Port)
	if err := i.rules.Apply(i.nic.RemoveInterfaceRules(a.Index, i.rules.Has)); err != nil {
		return err
	}
	err := do()
	if err == nil {
		return nil
	}
	if undo := i.addRules(of); undo != nil {
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
