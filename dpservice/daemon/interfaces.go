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

// interfaces are those of vnet. A new one's guest is greeted at once, so that neither it nor packets for it have to
// wait; captures and rules end with their interface.
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

// CreateInterface creates an interface and then, where anybody may send to it and as its packets find their way
// without them, the rules of its tunnels. Where that is checked, they come with the flows. If the NIC refuses them
// there is no interface, unless the error is ROLLBACK_FAILED: then it is to be deleted.
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
		return vnet.Interface{}, i.refused(created.ID, "cannot create interface "+created.ID, err)
	}
	i.greet(created.Port)
	return created, nil
}

// DeleteInterface takes the rules of the interface's flows out of the NIC, then those of its tunnels and those that
// capture it, and then deletes it. If the NIC keeps a rule, so does dpservice the interface; the flows come back with
// their next packets. After a ROLLBACK_FAILED the interface lacks rules, and goes on in software.
func (i interfaces) DeleteInterface(id string) error {
	i.changing.Lock()
	defer i.changing.Unlock()
	found, err := i.Interface(id)
	if err != nil {
		return err
	}
	return i.refused(id, "cannot delete interface "+id, i.deleteInterface(found))
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
	if err := i.deleteWithoutTunnels(found, deletion); err != nil {
		release.Abort()
		return err
	}
	release.Commit()
	return nil
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

// keepTunnels has the NIC decapsulate all that comes for an interface to which anybody may send.
func (i interfaces) keepTunnels(of vnet.Interface) error {
	a, ok := i.OnPort(of.Port)
	if i.tunnels == nil || !ok || i.checks(a.VNI) {
		return nil
	}
	return i.tunnels.Keep(graph.Tunnel{Interface: a.Index, Underlay: a.UnderlayIP}, nic.InnerTypes...)
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
	f := fault.Wrap(err, reason, id, "%s: the NIC refuses a change of port %s", what, i.portName(failed.Op.Rule.Port))
	f.Rule = failed.Op.Rule.Spec.String()
	var flow *rteflow.Error
	if errors.As(err, &flow) {
		f.RTEFlowError, f.Errno = flow.Reason(), flow.Errno
	}
	return f
}
