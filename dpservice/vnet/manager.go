// SPDX-License-Identifier: Apache-2.0

package vnet

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"dpservice/dpservice/fault"
	"dpservice/dpservice/port"
	"dpservice/wire"
)

// Dataplane is what forwards the packets. The graph, adapted, is one.
type Dataplane interface {
	// SetInterface adds an attachment or replaces the one with its index.
	SetInterface(a Attachment) error
	DeleteInterface(index uint16) error
	AddRoute(r Route) error
	DeleteRoute(r Route) error
}

// Ports finds the NIC's ports. A *port.Manager is one.
type Ports interface {
	ByName(name string) (port.Port, bool)
	List() []port.Port
}

// Attachment is an interface as the dataplane knows it.
type Attachment struct {
	Interface
	Index       uint16
	GatewayMAC  wire.MAC   // the VF's own
	GatewayIPv6 netip.Addr // the gateway's routable address, the same in all of the VNI
	GuestMAC    wire.MAC   // zero until it is learned
}

// Config is what a Manager is made of.
type Config struct {
	NodeIP        netip.Addr // the node's own underlay address; its /64 gives the interfaces theirs
	Ports         Ports
	Dataplane     Dataplane
	GatewayPrefix netip.Prefix // of IPv6: each VNI's gateway has an address of it, see Gateway
	MaxInterfaces int
	MaxRoutes     int
}

// Manager holds the interfaces and the routes, and keeps the dataplane in step. It is safe for concurrent use.
type Manager struct {
	cfg Config

	mu         sync.Mutex
	interfaces map[string]*Attachment
	reserved   map[string]netip.Addr // underlay addresses, by the ids of the interfaces that they are kept for
	routes     map[routeKey]Route
}

type routeKey struct {
	vni    uint32
	prefix netip.Prefix
}

// New returns a Manager without interfaces and routes.
func New(cfg Config) *Manager {
	return &Manager{
		cfg: cfg, interfaces: map[string]*Attachment{}, reserved: map[string]netip.Addr{}, routes: map[routeKey]Route{},
	}
}

// Reserve keeps an underlay address for an interface that cannot be created yet, its port being gone, say: other nodes
// have routes to it. Only an interface with this id can get the address, until Release.
func (m *Manager) Reserve(id string, underlay netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reserved[id] = underlay
}

// Release ends Reserve. Without a reservation it does nothing.
func (m *Manager) Release(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.reserved, id)
}

// CreateInterface attaches a guest to a virtual network. It gets the underlay address that is reserved for its id,
// unless it asks for another.
func (m *Manager) CreateInterface(req CreateRequest) (Interface, error) {
	if err := req.validate(); err != nil {
		return Interface{}, err
	}
	p, err := m.device(req)
	if err != nil {
		return Interface{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !req.UnderlayIP.IsValid() {
		req.UnderlayIP = m.reserved[req.ID]
	}
	if err := m.conflict(req); err != nil {
		return Interface{}, err
	}
	a := &Attachment{
		Interface: Interface{
			ID: req.ID, Device: p.Name, Port: p.ID, VNI: req.VNI, IPv4: req.IPv4, IPv6: req.IPv6, UnderlayIP: req.UnderlayIP,
			Hostname: req.Hostname, PXE: req.PXE,
		},
		Index:       m.freeIndex(),
		GatewayMAC:  wire.MAC(p.MAC),
		GatewayIPv6: Gateway(m.cfg.GatewayPrefix, req.VNI),
		GuestMAC:    req.GuestMAC,
	}
	if !a.UnderlayIP.IsValid() {
		a.UnderlayIP = m.freeUnderlay()
	}
	if err := m.cfg.Dataplane.SetInterface(*a); err != nil {
		return Interface{}, err
	}
	m.interfaces[a.ID] = a
	return a.Interface, nil
}

// Gateway is the IPv6 address that routes of a VNI's gateway: the prefix, of at most 96 bits, with the VNI in the last
// 32.
func Gateway(prefix netip.Prefix, vni uint32) netip.Addr {
	ip := prefix.Masked().Addr().As16()
	binary.BigEndian.PutUint32(ip[12:], vni)
	return netip.AddrFrom16(ip)
}

// device finds the VF that a request names.
func (m *Manager) device(req CreateRequest) (port.Port, error) {
	p, ok := m.cfg.Ports.ByName(req.Device)
	if !ok {
		return port.Port{}, fault.New(fault.NotFound, req.ID, "no device %q; there are: %s", req.Device, m.devices())
	}
	if p.Role != port.VF {
		return port.Port{}, fault.New(fault.InvalidParams, req.ID,
			"device %q is a physical port; a guest's device is one of: %s", req.Device, m.devices())
	}
	return p, nil
}

func (m *Manager) devices() string {
	var names []string
	for _, p := range m.cfg.Ports.List() {
		if p.Role == port.VF {
			names = append(names, p.Name)
		}
	}
	return strings.Join(names, ", ")
}

// conflict reports what the request has that another interface has already, or that there is no room for.
func (m *Manager) conflict(req CreateRequest) error {
	taken := func(other *Attachment, format string, args ...any) error {
		return fault.New(fault.AlreadyExists, other.ID, format, args...)
	}
	if req.UnderlayIP.IsValid() && !underlayPrefix(m.cfg.NodeIP).Contains(req.UnderlayIP) {
		return fault.New(fault.InvalidParams, req.ID, "underlay_ip %s is not in %s, the node's prefix", req.UnderlayIP,
			underlayPrefix(m.cfg.NodeIP))
	}
	if req.UnderlayIP == m.cfg.NodeIP {
		return fault.New(fault.AlreadyExists, req.ID, "underlay_ip %s is the node's own", req.UnderlayIP)
	}
	if req.IPv6 == Gateway(m.cfg.GatewayPrefix, req.VNI) {
		return fault.New(fault.InvalidParams, req.ID, "ipv6 %s is the gateway's in vni %d", req.IPv6, req.VNI)
	}
	for id, ip := range m.reserved {
		if id != req.ID && ip == req.UnderlayIP {
			return fault.New(fault.AlreadyExists, id,
				"underlay_ip %s is kept for interface %q, which could not be restored: delete that first", ip, id)
		}
	}
	for _, a := range m.interfaces {
		switch {
		case a.ID == req.ID:
			return taken(a, "interface %q exists already", req.ID)
		case a.Device == req.Device:
			return taken(a, "device %q is in use by interface %q", req.Device, a.ID)
		case req.UnderlayIP.IsValid() && a.UnderlayIP == req.UnderlayIP:
			return taken(a, "underlay_ip %s is in use by interface %q", req.UnderlayIP, a.ID)
		case a.VNI == req.VNI && req.IPv4.IsValid() && a.IPv4 == req.IPv4:
			return taken(a, "ipv4 %s is in use in vni %d by interface %q", req.IPv4, req.VNI, a.ID)
		case a.VNI == req.VNI && req.IPv6.IsValid() && a.IPv6 == req.IPv6:
			return taken(a, "ipv6 %s is in use in vni %d by interface %q", req.IPv6, req.VNI, a.ID)
		}
	}
	if len(m.interfaces) >= m.cfg.MaxInterfaces {
		return fault.New(fault.LimitReached, req.ID, "there are %d interfaces already, which is the limit", len(m.interfaces))
	}
	return nil
}

// freeIndex returns the lowest index that no interface has.
func (m *Manager) freeIndex() uint16 {
	used := map[uint16]bool{}
	for _, a := range m.interfaces {
		used[a.Index] = true
	}
	index := uint16(0)
	for used[index] {
		index++
	}
	return index
}

// freeUnderlay returns the lowest free address of those which the node's /64 has for interfaces.
func (m *Manager) freeUnderlay() netip.Addr {
	used := map[netip.Addr]bool{m.cfg.NodeIP: true}
	for _, a := range m.interfaces {
		used[a.UnderlayIP] = true
	}
	for _, ip := range m.reserved {
		used[ip] = true
	}
	ip := firstUnderlay(m.cfg.NodeIP)
	for used[ip] {
		ip = ip.Next()
	}
	return ip
}

// underlayPrefix is the node's /64: what the underlay sends to the node, and the NIC's rules take from it.
func underlayPrefix(node netip.Addr) netip.Prefix { return netip.PrefixFrom(node, 64).Masked() }

// firstUnderlay is where the interfaces' addresses begin in the node's /64: at ::1:1, behind the low ones, which
// people give to nodes and routers.
func firstUnderlay(node netip.Addr) netip.Addr {
	b := node.As16()
	copy(b[8:], []byte{0, 0, 0, 0, 0, 1, 0, 1})
	return netip.AddrFrom16(b)
}

// DeleteInterface detaches a guest.
func (m *Manager) DeleteInterface(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.interfaces[id]
	if !ok {
		return noInterface(id)
	}
	if err := m.cfg.Dataplane.DeleteInterface(a.Index); err != nil {
		return err
	}
	delete(m.interfaces, id)
	return nil
}

// Interface returns the interface with this id.
func (m *Manager) Interface(id string) (Interface, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.interfaces[id]
	if !ok {
		return Interface{}, noInterface(id)
	}
	return a.Interface, nil
}

func noInterface(id string) error {
	return fault.New(fault.NotFound, id, "no interface %q", id)
}

// Interfaces returns all interfaces, ordered by id.
func (m *Manager) Interfaces() []Interface {
	attachments := m.Attachments()
	interfaces := make([]Interface, len(attachments))
	for i, a := range attachments {
		interfaces[i] = a.Interface
	}
	return interfaces
}

// Attachments returns all interfaces as the dataplane knows them, ordered by id.
func (m *Manager) Attachments() []Attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Attachment, 0, len(m.interfaces))
	for _, a := range m.interfaces {
		all = append(all, *a)
	}
	slices.SortFunc(all, func(a, b Attachment) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// OnPort returns the interface on a port.
func (m *Manager) OnPort(id uint16) (Attachment, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.onPort(id); a != nil {
		return *a, true
	}
	return Attachment{}, false
}

// ByIndex returns the interface with this index.
func (m *Manager) ByIndex(index uint16) (Attachment, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.interfaces {
		if a.Index == index {
			return *a, true
		}
	}
	return Attachment{}, false
}

func (m *Manager) onPort(id uint16) *Attachment {
	for _, a := range m.interfaces {
		if a.Port == id {
			return a
		}
	}
	return nil
}

// HasUnderlay reports whether an interface has this underlay address.
func (m *Manager) HasUnderlay(ip netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.interfaces {
		if a.UnderlayIP == ip {
			return true
		}
	}
	return false
}

// LearnMAC records the MAC of the guest behind a port. Without an interface on the port it does nothing.
func (m *Manager) LearnMAC(portID uint16, mac wire.MAC) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.onPort(portID)
	if a == nil || a.GuestMAC == mac {
		return nil
	}
	learned := *a
	learned.GuestMAC = mac
	if err := m.cfg.Dataplane.SetInterface(learned); err != nil {
		return err
	}
	*a = learned
	return nil
}

// AddRoute adds a route.
func (m *Manager) AddRoute(r Route) error {
	if err := r.validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := routeKey{r.VNI, r.Prefix}
	if old, ok := m.routes[key]; ok {
		return fault.New(fault.AlreadyExists, "", "vni %d has a route to %s already, by %s", r.VNI, r.Prefix, old.NextHopIP)
	}
	if len(m.routes) >= m.cfg.MaxRoutes {
		return fault.New(fault.LimitReached, "", "there are %d routes already, which is the limit", len(m.routes))
	}
	if err := m.cfg.Dataplane.AddRoute(r); err != nil {
		return err
	}
	m.routes[key] = r
	return nil
}

// DeleteRoute deletes the route with this VNI and prefix. The next hop, where r names one, must be the route's.
func (m *Manager) DeleteRoute(r Route) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := routeKey{r.VNI, r.Prefix}
	found, ok := m.routes[key]
	if !ok {
		return fault.New(fault.NotFound, "", "vni %d has no route to %s", r.VNI, r.Prefix)
	}
	if r.NextHopIP.IsValid() && r.NextHopIP != found.NextHopIP || r.NextHopVNI != 0 && r.NextHopVNI != found.NextHopVNI {
		return fault.New(fault.NotFound, "", "the route of vni %d to %s is by %s in vni %d",
			r.VNI, r.Prefix, found.NextHopIP, found.NextHopVNI)
	}
	if err := m.cfg.Dataplane.DeleteRoute(found); err != nil {
		return err
	}
	delete(m.routes, key)
	return nil
}

// Routes returns all routes, ordered by VNI and prefix.
func (m *Manager) Routes() []Route {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Route, 0, len(m.routes))
	for _, r := range m.routes {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.VNI, b.VNI), a.Prefix.Addr().Compare(b.Prefix.Addr()), a.Prefix.Bits()-b.Prefix.Bits())
	})
	return all
}
