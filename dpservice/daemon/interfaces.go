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

// interfaces creates and deletes interfaces with all that belongs to them: rules of tunnels and flows, and captures. It
// greets the guest of a new interface, so that neither the guest nor packets for it have to wait.
type interfaces struct {
	*vnet.Manager
	capture  *capture.Manager
	flows    *flow.Manager         // nil without offload
	tunnels  *tunnel.Manager       // nil without offload
	checks   func(vni uint32) bool // whether the outer source of packets to a network is checked
	greet    func(port uint16)
	portName func(id uint16) string

	changing *sync.Mutex // one change at a time: an id must not be reused while its interface is being deleted
}

func (d *daemon) interfaces() interfaces {
	return interfaces{
		Manager: d.vnet, capture: d.capture, flows: d.flows, tunnels: d.tunnels,
		checks: d.cfg.Underlay.ChecksSource, greet: d.slow.Greet, portName: d.portName,
		changing: &sync.Mutex{},
	}
}

// CreateInterface creates an interface. If the outer source of its packets is not checked, the rules that decapsulate
// for it are installed at once; else they are installed with its flows. If the NIC refuses them, the interface is not
// created. After a ROLLBACK_FAILED it exists without all of its rules, and must be deleted.
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
			err = fault.Wrap(errors.Join(err, undo), fault.RollbackFailed, created.ID,
				"interface %s stays, without all of its rules: delete it", created.ID)
		}
		return vnet.Interface{}, i.ruleFault(created.ID, "cannot create interface "+created.ID, err)
	}
	i.greet(created.Port)
	return created, nil
}

// DeleteInterface removes the rules of the interface's flows, of its tunnels and of its captures, and then the
// interface. If the NIC does not remove a rule, the interface stays; its flows are offloaded again with their next
// packets. After a ROLLBACK_FAILED the interface lacks rules, and its packets are forwarded in software.
func (i interfaces) DeleteInterface(id string) error {
	i.changing.Lock()
	defer i.changing.Unlock()
	found, err := i.Interface(id)
	if err != nil {
		return err
	}
	return i.ruleFault(id, "cannot delete interface "+id, i.deleteInterface(found))
}

// deleteInterface ends what an interface has in the NIC, in an order in which nothing of it can come back meanwhile,
// and deletes it.
func (i interfaces) deleteInterface(found vnet.Interface) error {
	deletion := i.capture.BeginDeletion(found.ID)
	defer deletion.Close()
	if i.flows == nil {
		return i.endCaptureAndDelete(found, deletion)
	}
	release, err := i.flows.ReleasePort(found.Port)
	if err != nil {
		return err
	}
	defer release.End()
	return i.deleteWithoutTunnels(found, deletion)
}

func (i interfaces) endCaptureAndDelete(found vnet.Interface, deletion *capture.Deletion) error {
	if err := deletion.EndCapture(); err != nil {
		return err
	}
	return i.Manager.DeleteInterface(found.ID)
}

// deleteWithoutTunnels removes the rules of an interface's tunnels before the rest. If that fails, it puts them back.
func (i interfaces) deleteWithoutTunnels(found vnet.Interface, deletion *capture.Deletion) error {
	if err := i.tunnels.RemoveInterface(found.UnderlayIP); err != nil {
		return err
	}
	err := i.endCaptureAndDelete(found, deletion)
	if err == nil {
		return nil
	}
	if undo := i.keepTunnels(found); undo != nil {
		return fault.Wrap(errors.Join(err, undo), fault.RollbackFailed, found.ID,
			"interface %s goes on without all of its rules", found.ID)
	}
	return err
}

// keepTunnels installs the rules that decapsulate packets for an interface, if their outer source is not checked.
func (i interfaces) keepTunnels(of vnet.Interface) error {
	a, ok := i.OnPort(of.Port)
	if i.tunnels == nil || !ok || i.checks(a.VNI) {
		return nil
	}
	return i.tunnels.Keep(graph.Tunnel{Interface: a.Index, Underlay: a.UnderlayIP}, nic.InnerTypes...)
}

// ruleFault adds reason and details to an error of the NIC. It returns other errors as they are.
func (i interfaces) ruleFault(id, what string, err error) error {
	var failed *ruleset.ApplyError
	if !errors.As(err, &failed) {
		return err
	}
	reason := fault.RuleRejected
	if len(failed.Undo) > 0 || fault.Is(err, fault.RollbackFailed) {
		reason = fault.RollbackFailed
	}
	f := fault.Wrap(err, reason, id, "%s: the NIC refuses a change of port %s", what, i.portName(failed.Op.Rule.Port))
	f.Rule = failed.Op.Rule.Full().String()
	var flow *rteflow.Error
	if errors.As(err, &flow) {
		f.RTEFlowError, f.Errno = flow.Reason(), flow.Errno
	}
	return f
}
