// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"cmp"
	"net/netip"
	"regexp"

	"dpservice/dpservice/fault"
)

// names of sessions become parts of rules' names, in which a slash separates.
var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Validate checks what can be checked without knowing the node's ports.
func (r Request) Validate() error {
	if r.Name != "" && !nameSyntax.MatchString(r.Name) {
		return fault.New(fault.InvalidParams, "", "session name %q: want 1 to 63 letters, digits, dots, dashes "+
			"or underscores, the first a letter or digit", r.Name)
	}
	if why := sinkFlaw(r.Sink); why != "" {
		return fault.New(fault.InvalidParams, "", "sink_node_ip %s", why)
	}
	if r.UDPSrcPort == 0 {
		return fault.New(fault.InvalidParams, "", "udp_src_port is 0: want 1 to 65535")
	}
	if e := r.encap(); e != EncapUDP && e != EncapVXLAN {
		return fault.New(fault.InvalidParams, "", "encap %q: want %s or %s", e, EncapUDP, EncapVXLAN)
	}
	if d := r.direction(); d != RX && d != TX && d != Both {
		return fault.New(fault.InvalidParams, "", "direction %q: want %s, %s or %s", d, RX, TX, Both)
	}
	if r.udpDstPort() == 0 {
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
		t = t.key()
		if seen[t] {
			return fault.New(fault.InvalidParams, t.String(), "interface %s is named twice", t)
		}
		seen[t] = true
	}
	return nil
}

// sinkFlaw says what keeps an address from being a sink; empty if nothing does.
func sinkFlaw(sink netip.Addr) string {
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

// key makes two ways of naming one capture point equal: PF is not looked at when VF is set.
func (t Target) key() Target {
	if t.VF != "" {
		t.PF = 0
	}
	return t
}

func (r Request) encap() Encap { return cmp.Or(r.Encap, EncapUDP) }

func (r Request) direction() Direction { return cmp.Or(r.Direction, RX) }

func (r Request) udpDstPort() uint16 {
	if r.encap() == EncapVXLAN {
		return cmp.Or(r.UDPDstPort, VXLANPort)
	}
	return r.UDPDstPort
}

func (r Request) name() string {
	if r.Name == "" {
		return DefaultName
	}
	return r.Name
}
