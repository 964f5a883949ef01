// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"dpservice/capture/filter"
	"dpservice/dpservice/fault"
	"dpservice/wire"
)

// Target names what is captured: a guest's interface by its id, or a physical port by its number.
type Target struct {
	VF string // interface id; empty for a PF
	PF int    // PF number; ignored if VF is set
}

// String returns the target's name for people: the interface's id, or pf0.
func (t Target) String() string {
	if t.VF != "" {
		return t.VF
	}
	return fmt.Sprintf("pf%d", t.PF)
}

// Link is what the target's packets begin with for a filter: on a PF it is about what the tunnel carries.
func (t Target) Link() filter.Link {
	if t.VF == "" {
		return filter.IP
	}
	return filter.Ethernet
}

// Request describes a capture to start. WithDefaults fills its empty fields.
type Request struct {
	Name       string     // session name; DefaultName by default
	Sink       netip.Addr // IPv6 destination of the copies
	UDPSrcPort uint16     // a NIC may overwrite it with its own entropy; wire.DefaultCopySrcPort by default
	UDPDstPort uint16     // wire.VXLANPort by default for wire.EncapVXLAN
	Encap      wire.Encap // wire.EncapUDP by default
	Targets    []Target
	Direction  Direction // of the guests' interfaces; RX by default
	Drops      bool      // copy also what the packet graph drops, with the reason; must be set if Direction is None
	Filter     string    // pcap-filter(7); empty: everything
	Limits     Limits
	Held       bool // end when the context of the start does: the client has hung up
	DryRun     bool // plan and validate, change nothing
}

// Limits end a session by themselves. Zero means no limit. The NIC keeps copying until its rules are removed, so the
// final count can exceed a limit slightly.
type Limits struct {
	Duration time.Duration
	Packets  uint64
	Bytes    uint64 // of the packets, without the copies' headers
	// PacketsPerSecond is of all copies together, on average over a second and more. Faster ones end the session.
	PacketsPerSecond uint64
}

// nameSyntax is the syntax of session names. They become parts of rule names, in which a slash separates the parts.
var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Validate checks everything of a request with defaults that can be checked without the node's ports. The error is a
// *fault.Error.
func (r Request) Validate() error {
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
	if len(r.Targets) == 0 {
		return fault.New(fault.InvalidParams, "", "no interface to capture: name at least one vf or pf")
	}
	seen := make(map[Target]bool, len(r.Targets))
	for _, t := range r.Targets {
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
	var all []Direction
	switch isVF := t.VF != ""; {
	case r.Direction == None:
	case !isVF && r.Direction == TX:
		return nil, fault.New(fault.NotSupported, t.String(), "what leaves by %s cannot be captured: capture what the "+
			"guests send, with direction rx", t)
	case !isVF:
		all = []Direction{RX}
	case r.Direction == Both:
		all = []Direction{RX, TX}
	default:
		all = []Direction{r.Direction}
	}
	if r.Drops {
		all = append(all, Drops)
	}
	return all, nil
}
