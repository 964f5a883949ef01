// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"

	"dpservice/dpservice/fault"
	"dpservice/wire"
)

// nameSyntax is the syntax of session names. They become parts of rule names, in which a slash separates the parts.
var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Validate checks everything that can be checked without the node's ports. The error is a *fault.Error.
func (r Request) Validate() error {
	r = r.WithDefaults()
	if !nameSyntax.MatchString(r.Name) {
		return fault.New(fault.InvalidParams, "", "session name %q: want 1 to 63 letters, digits, dots, dashes "+
			"or underscores, the first a letter or digit", r.Name)
	}
	if problem := sinkProblem(r.Sink); problem != "" {
		return fault.New(fault.InvalidParams, "", "sink_node_ip %s", problem)
	}
	if e := r.Encap; e != wire.EncapUDP && e != wire.EncapVXLAN {
		return fault.New(fault.InvalidParams, "", "encap %q: want %s or %s", e, wire.EncapUDP, wire.EncapVXLAN)
	}
	if d := r.Direction; d != RX && d != TX && d != Both && d != None {
		return fault.New(fault.InvalidParams, "", "direction %q: want %s, %s, %s or %s", d, RX, TX, Both, None)
	}
	if r.Direction == None && !r.Drops {
		return fault.New(fault.InvalidParams, "", "direction %s without drops copies nothing: ask for drops", None)
	}
	if r.UDPDstPort == 0 {
		return fault.New(fault.InvalidParams, "", "udp_dst_port is 0 or missing: want 1 to 65535")
	}
	if r.Limits.Duration < 0 {
		return fault.New(fault.InvalidParams, "", "limits.duration is negative")
	}
	return validateTargets(r.Targets)
}

func validateTargets(targets []Target) error {
	if len(targets) == 0 {
		return fault.New(fault.InvalidParams, "", "no interface to capture: name at least one vf or pf")
	}
	seen := make(map[Target]bool, len(targets))
	for _, t := range targets {
		if seen[t] {
			return fault.New(fault.InvalidParams, t.String(), "interface %s is named twice", t)
		}
		seen[t] = true
	}
	return nil
}

// sinkProblem says why an address cannot be a sink; it is empty for a good one.
func sinkProblem(sink netip.Addr) string {
	switch {
	case !sink.IsValid():
		return "is missing: want the sink's IPv6 address"
	case sink.Is4(), sink.Is4In6():
		return sink.String() + " is an IPv4 address: the underlay is IPv6"
	case sink.Zone() != "":
		return sink.String() + " has a zone: want a plain IPv6 address"
	case sink.IsUnspecified():
		return sink.String() + " is the unspecified address: no packet can be sent there"
	case sink.IsLoopback():
		return sink.String() + " is the loopback address: copies leave through the uplink"
	case sink.IsMulticast():
		return sink.String() + " is a multicast address: want one sink's unicast address"
	case sink.IsLinkLocalUnicast():
		return sink.String() + " is a link-local address: copies go through a router, which does not forward it"
	}
	return ""
}

// WithDefaults returns the request with defaults in its empty fields. The PF number of targets that name a VF becomes
// 0, so that equal targets compare as equal.
func (r Request) WithDefaults() Request {
	r.Name = cmp.Or(r.Name, DefaultName)
	r.Encap = cmp.Or(r.Encap, wire.EncapUDP)
	r.Direction = cmp.Or(r.Direction, RX)
	r.UDPSrcPort = cmp.Or(r.UDPSrcPort, wire.DefaultCopySrcPort)
	if r.Encap == wire.EncapVXLAN {
		r.UDPDstPort = cmp.Or(r.UDPDstPort, wire.VXLANPort)
	}
	r.Targets = slices.Clone(r.Targets)
	for i, t := range r.Targets {
		if t.VF != "" {
			r.Targets[i].PF = 0
		}
	}
	return r
}

// Directions returns the directions in which a target is captured, for a request with defaults. PFs are captured on RX
// only.
func (r Request) Directions(t Target) ([]Direction, error) {
	all, err := r.directions(t)
	if err == nil && r.Drops {
		all = append(all, Drops)
	}
	return all, err
}

// directions are those without drops.
func (r Request) directions(t Target) ([]Direction, error) {
	switch {
	case r.Direction == None:
		return nil, nil
	case t.VF != "" && r.Direction == Both:
		return []Direction{RX, TX}, nil
	case t.VF != "":
		return []Direction{r.Direction}, nil
	case r.Direction == TX:
		return nil, fault.New(fault.NotSupported, t.String(),
			"what leaves by %s cannot be captured: capture what the guests send, "+
				"with direction rx", t)
	}
	return []Direction{RX}, nil
}
