// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/binary"
	"strings"

	"dpservice/capture/filter"
	"dpservice/capture/spec"
	"dpservice/dpservice/status"
	"dpservice/graph"
	"dpservice/wire"
)

// captures are the rules of captures that the packet meets, where it comes in and where it goes out.
func (p *packet) captures() (met []status.ExplainCapture) {
	sessions, _ := p.cfg.Captures()
	for _, s := range sessions {
		for _, i := range s.Interfaces {
			if s.State == spec.Active && p.passes(i) {
				met = append(met, p.meets(s, i)...)
			}
		}
	}
	return met
}

// passes reports whether a capture sees the packet on an interface.
func (p *packet) passes(i spec.SessionInterface) bool {
	in := i.Port == p.cfg.PortName(p.a.Next.Verdict.InPort)
	switch i.Direction {
	case spec.RX:
		return in
	case spec.Drops:
		// also what the wire brings for the guest is the guest's then
		return i.Port == p.cfg.PortName(p.on.Port) && !p.forwarded() && p.a.Node != "punt"
	default:
		return p.forwarded() && i.Port == p.cfg.PortName(p.a.Next.Verdict.TxPort)
	}
}

// meets returns the rule that decides about the packet, behind those that may do so.
func (p *packet) meets(s spec.Session, i spec.SessionInterface) (met []status.ExplainCapture) {
	frame := p.frame(i.Direction)
	program, err := filter.Compile(s.Filter, i.Link(), spec.MaxRules)
	if err != nil || len(program.Rules) != len(i.Rules) {
		return nil // the session is not of this request any more
	}
	for n, r := range i.Rules {
		fits, depends := frame.matches(&program.Rules[n].Pattern)
		if !fits {
			continue
		}
		met = append(met, status.ExplainCapture{
			Session: s.Name, Interface: i.String(), Direction: string(i.Direction), Rule: r.Pattern, Copied: r.Sample,
			Depends: strings.Join(depends, ", "), Packets: r.Packets, Bytes: r.Bytes,
		})
		if len(depends) == 0 {
			break
		}
	}
	return met
}

// frame is what is known of a packet's fields; what is not is nil.
type frame [wire.NumFields][]byte

// unknown are the fields that a flow's packets differ in.
var unknown = map[wire.Field]string{
	wire.FieldEthDst: "the destination MAC", wire.FieldEthSrc: "the source MAC", wire.FieldTOS: "the type of service",
	wire.FieldTTL: "the time to live", wire.FieldTCPFlags: "the TCP flags",
}

// frame is the packet as a capture of a direction sees it: as it came in, or as it goes out.
func (p *packet) frame(d spec.Direction) frame {
	k := p.a.Next.Key
	f := frame{
		wire.FieldTagged: {0}, wire.FieldVLANTCI: {0, 0}, wire.FieldVLANType: {0, 0}, wire.FieldFragment: {0},
		wire.FieldEtherType: be16(wire.EtherTypeIPv4), wire.FieldProto: {k.Proto}, wire.FieldSrc: k.Src.AsSlice(),
		wire.FieldDst: k.Dst.AsSlice(), wire.FieldL4: {0}, wire.FieldSrcPort: {0, 0}, wire.FieldDstPort: {0, 0},
		wire.FieldTCPFlags: {0}, wire.FieldICMPType: {0}, wire.FieldICMPCode: {0},
	}
	if k.Src.Is6() {
		f[wire.FieldEtherType] = be16(wire.EtherTypeIPv6)
	}
	f.setL4(k)
	switch {
	case d == spec.TX:
		f[wire.FieldEthDst], f[wire.FieldEthSrc] = p.a.Next.Verdict.Header[:6], p.a.Next.Verdict.Header[6:12]
	case !p.fromWire():
		f[wire.FieldEthDst] = p.on.GatewayMAC[:]
		if p.on.GuestMAC != (wire.MAC{}) {
			f[wire.FieldEthSrc] = p.on.GuestMAC[:]
		}
	}
	return f
}

func (f *frame) setL4(k graph.FlowKey) {
	switch k.Proto {
	case wire.ProtoTCP, wire.ProtoUDP:
		f[wire.FieldL4], f[wire.FieldSrcPort], f[wire.FieldDstPort] = []byte{1}, be16(k.SrcPort), be16(k.DstPort)
		if k.Proto == wire.ProtoTCP {
			f[wire.FieldTCPFlags] = nil
		}
	case wire.ProtoICMP, wire.ProtoICMPv6:
		f[wire.FieldL4] = []byte{1}
		f[wire.FieldICMPType], f[wire.FieldICMPCode] = []byte{byte(k.SrcPort >> 8)}, []byte{byte(k.SrcPort)}
	}
}

// matches reports whether the packet fits a pattern, as far as it is known, and on what else that depends.
func (f *frame) matches(p *filter.Pattern) (fits bool, depends []string) {
	for field := range wire.NumFields {
		c := &p[field]
		if c.Any() {
			continue
		}
		if f[field] == nil {
			depends = append(depends, unknown[field])
			continue
		}
		for i, b := range f[field] {
			if b&c.Mask[i] != c.Value[i]&c.Mask[i] {
				return false, nil
			}
		}
	}
	return true, depends
}

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
