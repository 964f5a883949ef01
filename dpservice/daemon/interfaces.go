// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"sync"

	"dpservice/capture"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/flow"
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
	greet    func(port uint16)
	portName func(id uint16) string

	changing *sync.Mutex // one change at a time: an id must not come to mean another interface while it is deleted
}

func (d *daemon) interfaces() interfaces {
	return interfaces{
		Manager: d.vnet, capture: d.capture, flows: d.flows, greet: d.slow.Greet, portName: d.portName,
		changing: &sync.Mutex{},
	}
}

func (i interfaces) CreateInterface(req vnet.CreateRequest) (vnet.Interface, error) {
	i.changing.Lock()
	defer i.changing.Unlock()
	created, err := i.Manager.CreateInterface(req)
	if err == nil {
		i.greet(created.Port)
	}
	return created, err
}

// DeleteInterface takes the rules of the interface's flows out of the NIC, then those that capture it, and then deletes
// it. If the NIC keeps a rule, so does dpservice the interface; the flows come back with their next packets.
func (i interfaces) DeleteInterface(id string) error {
	i.changing.Lock()
	defer i.changing.Unlock()
	found, err := i.Interface(id)
	if err != nil {
		return err
	}
	return i.capture.DeleteInterface(id, func(endCapture func() error) error {
		deleteIt := func() error {
			if err := endCapture(); err != nil {
				return err
			}
			return i.Manager.DeleteInterface(id)
		}
		if i.flows == nil {
			return deleteIt()
		}
		return i.refused(id, i.flows.ReleasePort(found.Port, deleteIt))
	})
}

// refused gives an error of the NIC's its reason; others have theirs.
func (i interfaces) refused(id string, err error) error {
	var failed *ruleset.ApplyError
	if !errors.As(err, &failed) {
		return err
	}
	f := fault.Wrap(err, fault.RuleRejected, id, "cannot remove the rules of the flows of %s: the NIC keeps one of port %s",
		id, i.portName(failed.Op.Port))
	f.Rule = failed.Op.Rule.String()
	var flow *rteflow.Error
	if errors.As(err, &flow) {
		f.RTEFlowError, f.Errno = flow.Words(), flow.Errno
	}
	return f
}
