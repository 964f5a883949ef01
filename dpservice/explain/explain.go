// SPDX-License-Identifier: Apache-2.0

// Package explain says what would be done with a packet now, and why: by the packet graph, the NIC and the captures.
package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"dpservice/capture/spec"
	"dpservice/dpservice/fault"
	"dpservice/dpservice/nic/nicgroup"
	"dpservice/dpservice/status"
	"dpservice/dpservice/uplink"
	"dpservice/dpservice/verdict"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
	"dpservice/wire"
)

// Config is what an Explainer asks. All of it is safe for concurrent use.
type Config struct {
	Graph interface {
		Explain(q graph.Question) (graph.Answer, error)
	}
	Networks func() vnet.Networks
	Uplinks  func() []uplink.Uplink
	Captures func() (sessions, ended []spec.Session)
	// Rule is the NIC's rule of a flow; nil if there is none, and why says so. It is nil without offload.
	Rule     func(id uint64) (rule *status.Rule, why string)
	Describe func(f graph.Flow) status.Flow // names what a flow's numbers mean
	PortName func(id uint16) string         // ethdev name
}

// Explainer explains packets. It is safe for concurrent use, and changes nothing.
type Explainer struct{ cfg Config }

// New returns an Explainer.
func New(cfg Config) *Explainer { return &Explainer{cfg} }

// Explain says what would be done with a packet. The error is a *fault.Error if the request is at fault.
func (e *Explainer) Explain(r status.ExplainRequest) (status.Explanation, error) {
	networks := e.cfg.Networks()
	if r.ID != 0 {
		return e.explainFlow(networks, r.ID)
	}
	on, ok := networks.ByID(r.Interface)
	if !ok {
		return status.Explanation{}, fault.New(fault.NotFound, r.Interface, "no interface %q", r.Interface)
	}
	q, err := e.question(&on, r)
	if err != nil {
		return status.Explanation{}, err
	}
	a, err := e.cfg.Graph.Explain(q)
	if err != nil {
		return status.Explanation{}, fmt.Errorf("explain a packet: %w", err)
	}
	p := packet{Explainer: e, networks: networks, on: on, peer: q.Peer, a: a}
	return p.explain(), nil
}

// explainFlow says what would be done with the next packet of a flow.
func (e *Explainer) explainFlow(networks vnet.Networks, id uint64) (status.Explanation, error) {
	a, err := e.cfg.Graph.Explain(graph.Question{ID: id})
	if errors.Is(err, graph.ErrNotFound) {
		return status.Explanation{}, fault.New(fault.NotFound, "", "no flow %d: it has ended, or never was", id)
	}
	if err != nil {
		return status.Explanation{}, fmt.Errorf("explain a packet of flow %d: %w", id, err)
	}
	on, ok := networks.ByIndex(a.Flow.Key.Interface)
	if !ok {
		return status.Explanation{}, fault.New(fault.NotFound, "", "the flow's interface has been deleted")
	}
	p := packet{Explainer: e, networks: networks, on: on, a: a}
	return p.explain(), nil
}

// question asks about the packet of a request, of an interface.
func (e *Explainer) question(on *vnet.Attachment, r status.ExplainRequest) (q graph.Question, err error) {
	q = graph.Question{
		Port: on.Port, Src: r.Src, Dst: r.Dst, Proto: r.Proto, SrcPort: r.SrcPort, DstPort: r.DstPort, Peer: r.Peer,
	}
	own, other, field := &q.Src, q.Dst, "dst"
	if r.FromWire {
		own, other, field = &q.Dst, q.Src, "src"
		q.Origin, q.Underlay = graph.FromWire, on.UnderlayIP
		if q.Port, err = e.pf0(); err != nil {
			return q, err
		}
	}
	if !other.IsValid() {
		return q, fault.New(fault.InvalidParams, r.Interface, "field %q: the address of the other side is missing", field)
	}
	if !own.IsValid() {
		*own = ownAddress(on, other.Is6())
	}
	if !own.IsValid() {
		return q, fault.New(fault.InvalidParams, r.Interface, "interface %s has no address of the family of %s",
			r.Interface, other)
	}
	if q.Src.Is6() != q.Dst.Is6() {
		return q, fault.New(fault.InvalidParams, r.Interface, "%s and %s are not of one family", q.Src, q.Dst)
	}
	return q, nil
}

func ownAddress(a *vnet.Attachment, ipv6 bool) netip.Addr {
	if ipv6 {
		return a.IPv6
	}
	return a.IPv4
}

// pf0 is the uplink by which packets come from the wire.
func (e *Explainer) pf0() (port uint16, err error) {
	for _, u := range e.cfg.Uplinks() {
		if u.Number == 0 {
			return u.Port, nil
		}
	}
	return 0, fault.New(fault.NotFound, "pf0", "there is no PF0, so nothing comes from the wire")
}

// packet is one that is explained.
type packet struct {
	*Explainer
	networks vnet.Networks
	on       vnet.Attachment // the guest's interface
	peer     netip.Addr      // the outer source; invalid: not said
	a        graph.Answer
}

func (p *packet) fromWire() bool { return p.a.Next.Key.Origin == graph.FromWire }

// forwarded reports whether the packet goes out of a port.
func (p *packet) forwarded() bool { return p.a.Node == "" }

func (p *packet) explain() status.Explanation {
	x := status.Explanation{
		Verdict: p.verdict(), Dropped: !p.forwarded() && p.a.Node != "punt",
	}
	if p.a.Flow != nil {
		flow := p.cfg.Describe(p.a.Flow.Flow)
		x.Flow = &flow
	}
	step := func(subject, text string) {
		x.Steps = append(x.Steps, status.ExplainStep{Subject: subject, Text: text})
	}
	step("interface", p.guest())
	step("source", p.source())
	step("route", p.route())
	if p.forwarded() && p.a.Next.Verdict.Kind == graph.Encap {
		step("uplink", p.uplink())
	}
	if p.forwarded() {
		step("size", fmt.Sprintf("an IP packet of more than %d bytes does not fit: an ICMP error answers it", p.a.MTU))
	}
	step("flow", p.flow(x.Flow))
	var why string
	if x.Rule, why = p.rule(); x.Rule != nil {
		why = fmt.Sprintf("forwards the flow by itself, by rule %s in group %v", x.Rule.Name, nicgroup.Group(x.Rule.Group))
	}
	step("NIC", why)
	x.Captures = p.captures()
	if len(x.Captures) == 0 {
		step("captures", "none sees the packet")
	}
	return x
}

// verdict says what becomes of the packet.
func (p *packet) verdict() string {
	if p.forwarded() {
		return verdict.Forwarded(p.networks, p.a.Next, p.cfg.PortName(p.a.Next.Verdict.TxPort))
	}
	return verdict.End(p.a.Node)
}

func (p *packet) guest() string {
	text := fmt.Sprintf("%s on %s, VNI %d, underlay address %s", p.on.ID,
		p.cfg.PortName(p.on.Port), p.on.VNI, p.on.UnderlayIP)
	if p.on.GuestMAC == (wire.MAC{}) {
		return text + "; its guest's MAC is not known yet, so nothing can be delivered to it"
	}
	return text + "; its guest's MAC is " + p.on.GuestMAC.String()
}

// source says who may send the packet.
func (p *packet) source() string {
	k := p.a.Next.Key
	if !p.fromWire() {
		if k.Src == p.on.IPv4 || k.Src == p.on.IPv6 {
			return fmt.Sprintf("%s is the guest's own address", k.Src)
		}
		return fmt.Sprintf("%s is not the guest's own address: it may send from %s", k.Src, addresses(p.on))
	}
	from := ""
	if p.peer.IsValid() {
		from = fmt.Sprintf("; it comes from %s", p.peer)
	}
	hop := "no route leads to " + k.Src.String()
	if r, ok := p.networks.Route(p.on.VNI, k.Src); ok {
		hop = fmt.Sprintf("the route %s to %s leads to %s, who alone may send it", r.Prefix, k.Src, r.NextHopIP)
	}
	return hop + from
}

func addresses(a vnet.Attachment) string {
	var all []string
	for _, ip := range []netip.Addr{a.IPv4, a.IPv6} {
		if ip.IsValid() {
			all = append(all, ip.String())
		}
	}
	return strings.Join(all, " and ")
}

// route says by what the destination is found.
func (p *packet) route() string {
	dst := p.a.Next.Key.Dst
	if i, ok := p.networks.WithAddress(p.on.VNI, dst); ok {
		return fmt.Sprintf("%s is the address of %s on this node", dst, i.ID)
	}
	if r, ok := p.networks.Route(p.on.VNI, dst); ok {
		return fmt.Sprintf("%s to %s in VNI %d, the longest prefix that holds %s", r.Prefix, r.NextHopIP, r.VNI, dst)
	}
	return fmt.Sprintf("VNI %d has none to %s", p.on.VNI, dst)
}

func (p *packet) uplink() string {
	for _, u := range p.cfg.Uplinks() {
		if u.Port == p.a.Next.Verdict.TxPort {
			return fmt.Sprintf("%s, whose link is up, by the router %s (%s)", u.Name, u.RouterMAC, u.Source)
		}
	}
	return p.cfg.PortName(p.a.Next.Verdict.TxPort)
}

// flow says what is known of the packet's flow.
func (p *packet) flow(f *status.Flow) string {
	switch {
	case f == nil && p.forwarded():
		return "not seen, or forgotten: the packet would begin it"
	case f == nil:
		return "none: what is not forwarded begins no flow"
	}
	text := fmt.Sprintf("%d, %s: %d packets of %d bytes in all so far, the last one %.1f s ago", f.ID, f.State, f.Packets,
		f.Bytes, f.Idle.Seconds())
	if p.a.Stale {
		text += "; interfaces, routes or uplinks have changed since, so the next packet looks all of this up again"
	}
	return text
}

// rule is the NIC's rule of the flow, or why there is none.
func (p *packet) rule() (r *status.Rule, why string) {
	switch {
	case p.cfg.Rule == nil:
		return nil, "forwards nothing by itself: offload is off"
	case !p.forwarded():
		return nil, "has no rule: the software drops the packet or answers it itself"
	case !p.a.Offloadable:
		return nil, "has no rule: only TCP, UDP and echoes are offloaded"
	case p.a.Flow == nil:
		return nil, "has no rule yet: the flow's first packet brings it, if it is no TCP SYN, FIN or RST"
	}
	r, why = p.cfg.Rule(p.a.Flow.ID)
	switch {
	case r != nil:
		return r, ""
	case !p.a.Flow.Candidate:
		return nil, "has no rule: the flow had a packet that was too big for the MTU where it goes"
	case !p.a.Flow.Announced:
		return nil, "has no rule: the flow waits for a packet without SYN, FIN or RST"
	}
	return nil, why
}
