// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"

	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/rpc/api"
)

// selected returns the targets that a client has selected, in order. What a virtual network or all selects is captured
// once, also if it was selected before; what is named twice is for the capture to refuse.
func (c calls) selected(selectors []api.CaptureSelector) ([]spec.Target, error) {
	var targets []spec.Target
	for i, s := range selectors {
		fits, err := parseSelector(i, s)
		if err != nil {
			return nil, err
		}
		if fits == nil {
			targets = append(targets, target(s))
			continue
		}
		found := false
		for _, on := range c.Interfaces.Interfaces() {
			if !fits(on.VNI) {
				continue
			}
			found = true
			if t := (spec.Target{VF: on.ID}); !slices.Contains(targets, t) {
				targets = append(targets, t)
			}
		}
		if !found {
			return nil, nothingSelected(s)
		}
	}
	return targets, nil
}

// parseSelector returns which interfaces a selector selects, by their virtual network; nil if it names a single target.
func parseSelector(i int, s api.CaptureSelector) (fits func(vni uint32) bool, err error) {
	switch {
	case s == api.CaptureSelector{VF: s.VF} && s.VF != "":
		return nil, nil
	case s == api.CaptureSelector{PF: s.PF} && s.PF != nil:
		return nil, nil
	case s == api.CaptureSelector{VNI: s.VNI} && s.VNI != nil:
		return func(vni uint32) bool { return vni == *s.VNI }, nil
	case s == api.CaptureSelector{All: true}:
		return func(uint32) bool { return true }, nil
	}
	return nil, invalid(`field "interfaces[%d]": want one of "vf", an interface's id, "pf" or "vni", a number, and "all": true`, i)
}

// target is the single target that a selector names.
func target(s api.CaptureSelector) spec.Target {
	if s.PF != nil {
		return spec.Target{PF: *s.PF}
	}
	return spec.Target{VF: s.VF}
}

func nothingSelected(s api.CaptureSelector) error {
	if s.All {
		return fault.New(fault.NotFound, "", "there is no interface to capture on this node")
	}
	return fault.New(fault.NotFound, "", "virtual network %d has no interface on this node", *s.VNI)
}
