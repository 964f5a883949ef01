// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"fmt"

	"dpservice/capture/plan"
	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/port"
	"dpservice/wire"
)

// addTarget has the session capture a target.
func (s *session) addTarget(t spec.Target, node plan.Node) error {
	p, err := findPort(s.deps.Ports, t)
	if err != nil {
		return err
	}
	if w := mtuWarning(t, p.MTU, node.Uplink.MTU, s.copies.Header.Len()); w != "" {
		s.warnings = append(s.warnings, w)
	}
	directions, err := s.request.Directions(t)
	if err != nil {
		return err
	}
	for _, d := range directions {
		s.mirrors = append(s.mirrors, s.newMirror(t, d, p, node))
	}
	return nil
}

// findPort returns the port that a target names.
func findPort(ports Ports, t spec.Target) (port.Port, error) {
	if t.VF != "" {
		return findInterface(ports, t.VF)
	}
	return findPF(ports, t.PF)
}

func findInterface(ports Ports, id string) (port.Port, error) {
	p, ok := ports.Interface(id)
	if !ok {
		if _, ok := ports.Device(id); ok {
			return port.Port{}, fault.New(fault.NotFound, id, "%s is a device, not an interface: create an interface "+
				"on it to start it, and name the interface's id", id)
		}
		return port.Port{}, fault.New(fault.NotFound, id, "there is no interface %s", id)
	}
	if !p.Started {
		return port.Port{}, fault.New(fault.NotFound, id, "interface %s is not started: its port %s is stopped", id, p.Name)
	}
	return p, nil
}

func findPF(ports Ports, number int) (port.Port, error) {
	name := spec.Target{PF: number}.String()
	p, ok := ports.PF(number)
	if !ok {
		return port.Port{}, fault.New(fault.NotFound, name, "there is no PF%d to capture on", number)
	}
	if !p.Started {
		return port.Port{}, fault.New(fault.NotFound, name, "PF%d is not started: its port %s is stopped", number, p.Name)
	}
	return p, nil
}

// mtuWarning says which frames of a target are too long to be copied: an Ethernet frame in a UDP datagram becomes
// the payload of the uplink's frame.
func mtuWarning(t spec.Target, mtu, uplinkMTU uint16, headerLen int) string {
	overhead := headerLen - wire.EthernetLen // of the outer header, what counts towards the uplink's MTU
	need := int(mtu) + wire.EthernetLen + overhead
	if need <= int(uplinkMTU) {
		return ""
	}
	return fmt.Sprintf("frames of %s can have %d bytes, their copies need an uplink MTU of %d, and it is %d: "+
		"frames longer than %d bytes are not captured", t, int(mtu)+wire.EthernetLen, need, uplinkMTU,
		int(uplinkMTU)-overhead)
}
