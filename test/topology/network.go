// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
)

const (
	// VNI is the virtual network of every guest of a Network, unless it joins another one.
	VNI = 100

	guestMTU = 1500
	// wireMTU is large enough for a full-size guest frame with 62 bytes of outer headers, and small enough for
	// net_af_packet's frames of 2048 bytes.
	wireMTU = 1800
)

// Network is an underlay with hypervisors, their guests and a sink:
//
//	guest eth0 -- guest<n> [hypervisor] wire0 -- hv<n> [router] sink0 -- eth0 [sink]
//	                                    wire1 -- hv<n>w1
//
// The router has no IPv6 on hv<n>w1 until ConnectSecondWire enables it, so all packets pass wire0.
type Network struct {
	*Lab
	Router      *Namespace
	Sink        *Namespace
	SinkIP      netip.Addr
	Hypervisors []*Hypervisor
	NIC         *NIC
}

// Hypervisor is a namespace in which dpservice runs. It has the host's ends of the guests' links and of the wires.
type Hypervisor struct {
	*Namespace
	UnderlayIP netip.Addr
	RouterLink string // the router's device towards wire0
	Guests     []*Guest
	launches   int
	router     *Namespace
	nic        *NIC
}

// Guest is a VM: a namespace with one device, eth0.
type Guest struct {
	*Namespace
	ID         string // the interface's id in dpservice
	Device     string // the VF's representor in dpservice
	IPv4, IPv6 netip.Addr
	VNI        uint32
}

// Join sets the virtual network and the addresses of a guest that has no interface yet.
func (g *Guest) Join(vni uint32, ipv4, ipv6 netip.Addr) error {
	g.VNI, g.IPv4, g.IPv6 = vni, ipv4, ipv6
	return g.IP(append([]string{"addr flush dev eth0 scope global"}, g.hostAddresses()...)...)
}

// hostAddresses returns the ip commands that give a guest host addresses and gateways, so that all is off-link.
func (g *Guest) hostAddresses() []string {
	return []string{
		fmt.Sprintf("addr add %s/32 dev eth0", g.IPv4),
		"route replace 169.254.0.1 dev eth0",
		"route replace default via 169.254.0.1 dev eth0",
		fmt.Sprintf("addr add %s/128 dev eth0 nodad", g.IPv6),
		"route replace default via fe80::1 dev eth0",
	}
}

// NewNetwork builds a Network; guests has the number of guests of each hypervisor. On error it leaves nothing behind.
//
// Guests with an odd number have host addresses, and routes via the gateways 169.254.0.1 and fe80::1. Guests with an
// even number have /24 and /64 subnets, so that they resolve their neighbours by ARP and neighbour discovery.
func NewNetwork(guests ...int) (*Network, error) {
	nic, err := CurrentNIC()
	if err != nil {
		return nil, err
	}
	lab, err := New()
	if err != nil {
		return nil, err
	}
	n := &Network{Lab: lab, SinkIP: netip.MustParseAddr("fc00:99::1"), NIC: nic}
	if err := n.build(guests); err != nil {
		if closeErr := lab.Close(); closeErr != nil {
			err = fmt.Errorf("%w; cleaning up: %w", err, closeErr)
		}
		return nil, err
	}
	return n, nil
}

func (n *Network) build(guests []int) error {
	if err := n.buildUnderlay(); err != nil {
		return err
	}
	number := 1
	for i, count := range guests {
		h, err := n.addHypervisor(i + 1)
		if err != nil {
			return err
		}
		for vf := range count {
			if err := n.addGuest(h, vf, number); err != nil {
				return err
			}
			number++
		}
		n.Hypervisors = append(n.Hypervisors, h)
	}
	return nil
}

func (n *Network) buildUnderlay() error {
	var err error
	if n.Router, err = n.Namespace("router",
		"net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.forwarding=1"); err != nil {
		return err
	}
	if n.Sink, err = n.Namespace("sink"); err != nil {
		return err
	}
	if err := n.Link(n.Router, "sink0", n.Sink, "eth0", wireMTU); err != nil {
		return err
	}
	if err := n.Router.IP("addr add fc00:99::ffff/64 dev sink0 nodad"); err != nil {
		return err
	}
	return n.Sink.IP("addr add "+n.SinkIP.String()+"/64 dev eth0 nodad", "route add default via fc00:99::ffff")
}

// addHypervisor makes a hypervisor and the router's route to its /64. If the kernel has a twin of the uplink, the twin
// gets the node's address and the kernel resolves the router's MAC. Otherwise the kernel has no addresses, and
// dpservice sends all packets.
func (n *Network) addHypervisor(number int) (*Hypervisor, error) {
	ns, err := n.Namespace(fmt.Sprintf("hv%d", number),
		"net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	if err != nil {
		return nil, err
	}
	h := &Hypervisor{
		Namespace:  ns,
		UnderlayIP: netip.MustParseAddr(fmt.Sprintf("fc00:%d::1", number)),
		RouterLink: fmt.Sprintf("hv%d", number),
		router:     n.Router,
		nic:        n.NIC,
	}
	if err := n.Link(ns, "wire0", n.Router, h.RouterLink, wireMTU); err != nil {
		return nil, err
	}
	if err := n.Link(ns, "wire1", n.Router, h.SecondRouterLink(), wireMTU); err != nil {
		return nil, err
	}
	if err := n.Router.enableIPv6(h.SecondRouterLink(), false); err != nil {
		return nil, err
	}
	if err := n.Router.IP(
		fmt.Sprintf("addr add fc00:%d::ffff/128 dev %s nodad", number, h.RouterLink),
		fmt.Sprintf("route add %s/128 dev %s", h.UnderlayIP, h.RouterLink),
		fmt.Sprintf("route add fc00:%d::/64 via %s dev %s", number, h.UnderlayIP, h.RouterLink)); err != nil {
		return nil, err
	}
	for pf := range 2 {
		if err := h.addTwin(fmt.Sprintf("pf%d", pf), fmt.Sprintf("wire%d", pf), wireMTU); err != nil {
			return nil, err
		}
	}
	return h, h.useTwin()
}

// addTwin makes the kernel's device for a port of the NIC, if the NIC has such devices. The device exists before the
// daemon starts, and remains after it ends.
func (h *Hypervisor) addTwin(port, far string, mtu int) error {
	twin := h.nic.twin(port)
	if twin == "" {
		return nil
	}
	mac, err := h.MAC(far)
	if err != nil {
		return err
	}
	if err := h.command("ip", "tuntap", "add", "dev", twin, "mode", "tap"); err != nil {
		return err
	}
	return h.IP(fmt.Sprintf("link set %s address %s mtu %d up", twin, mac, mtu))
}

// useTwin gives the kernel the node's address on the twin of PF0, and the router as its next hop.
func (h *Hypervisor) useTwin() error {
	twin := h.nic.twin("pf0")
	if twin == "" {
		return nil
	}
	if err := h.enableIPv6(twin, true); err != nil {
		return err
	}
	// The router announces a new MAC: otherwise the kernel would notice it only at its next reachability probe.
	if err := h.router.command("sysctl", "-qw", "net.ipv6.conf."+h.RouterLink+".ndisc_notify=1"); err != nil {
		return err
	}
	mac, err := h.router.MAC(h.RouterLink)
	if err != nil {
		return err
	}
	return h.IP(fmt.Sprintf("addr add %s/128 dev %s nodad", h.UnderlayIP, twin),
		fmt.Sprintf("route add default via %s dev %s", LinkLocal(mac), twin))
}

// NIC returns the NIC between the hypervisor's wires and guests.
func (h *Hypervisor) NIC() *NIC { return h.nic }

// SecondRouterLink returns the name of the router's device towards wire1.
func (h *Hypervisor) SecondRouterLink() string { return h.RouterLink + "w1" }

// ConnectSecondWire makes the router answer on wire1 too, and use both wires towards the hypervisor. If the kernel
// resolves the router's MACs, it does so on each wire.
func (h *Hypervisor) ConnectSecondWire() error {
	if err := h.router.enableIPv6(h.SecondRouterLink(), true); err != nil {
		return err
	}
	if h.HasTwins() {
		if err := h.routeBy(h.nic.twin("pf0"), h.nic.twin("pf1")); err != nil {
			return err
		}
	}
	return h.UseBothWires()
}

// UseBothWires gives the router its address and its routes over both wires. Call it again after a link was down, which
// removes them. dpservice, or the kernel on the twins, answers for the wires' link-local addresses.
func (h *Hypervisor) UseBothWires() error {
	via := make([]netip.Addr, 2)
	for i := range via {
		mac, err := h.MAC(fmt.Sprintf("wire%d", i))
		if err != nil {
			return err
		}
		via[i] = LinkLocal(mac)
	}
	prefix := netip.PrefixFrom(h.UnderlayIP, 64).Masked()
	routerIP := prefix.Addr().As16()
	routerIP[14], routerIP[15] = 0xff, 0xff
	return h.router.IP(
		fmt.Sprintf("addr replace %s/128 dev %s nodad", netip.AddrFrom16(routerIP), h.RouterLink),
		fmt.Sprintf("route replace %s nexthop via %s dev %s nexthop via %s dev %s", prefix, via[0], h.RouterLink, via[1],
			h.SecondRouterLink()))
}

// LinkLocal returns the link-local address that the kernel and dpservice derive from a MAC.
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3],
		14: mac[4], 15: mac[5]})
}

// HasTwins reports whether the kernel has a device for each port of the NIC. Then the kernel resolves the router's
// MACs.
func (h *Hypervisor) HasTwins() bool { return h.nic.twin("pf0") != "" }

// UseKernelRoutes gives the hypervisor's kernel IPv6 on both wires and a default route over both, so that the kernel
// resolves the router's MACs.
func (h *Hypervisor) UseKernelRoutes() error { return h.routeBy("wire0", "wire1") }

// routeBy gives the kernel IPv6 on the device of each wire, and a default route over all of them.
func (h *Hypervisor) routeBy(devices ...string) error {
	hops := ""
	for i, link := range []string{h.RouterLink, h.SecondRouterLink()} {
		if err := h.enableIPv6(devices[i], true); err != nil {
			return err
		}
		mac, err := h.router.MAC(link)
		if err != nil {
			return err
		}
		hops += fmt.Sprintf(" nexthop via %s dev %s", LinkLocal(mac), devices[i])
	}
	return h.IP("route replace default" + hops)
}

// enableIPv6 switches IPv6 on a device on or off. The device has a link-local address while it is on.
func (n *Namespace) enableIPv6(device string, on bool) error {
	disable := 1
	if on {
		disable = 0
	}
	return n.command("sysctl", "-qw", fmt.Sprintf("net.ipv6.conf.%s.disable_ipv6=%d", device, disable))
}

func (n *Network) addGuest(h *Hypervisor, vf, number int) error {
	ns, err := n.Namespace(fmt.Sprintf("vm%d", number))
	if err != nil {
		return err
	}
	g := &Guest{
		Namespace: ns,
		ID:        fmt.Sprintf("vm-%d", number),
		Device:    h.nic.VF(vf),
		IPv4:      netip.MustParseAddr(fmt.Sprintf("10.100.0.%d", number)),
		IPv6:      netip.MustParseAddr(fmt.Sprintf("fd00:100::%d", number)),
		VNI:       VNI,
	}
	host := fmt.Sprintf("guest%d", vf)
	if err := n.Link(h.Namespace, host, ns, "eth0", guestMTU); err != nil {
		return err
	}
	if err := h.addTwin(fmt.Sprintf("vf%d", vf), host, guestMTU); err != nil {
		return err
	}
	h.Guests = append(h.Guests, g)
	if number%2 == 0 {
		return ns.IP(
			fmt.Sprintf("addr add %s/24 dev eth0", g.IPv4),
			fmt.Sprintf("addr add %s/64 dev eth0 nodad", g.IPv6),
			"route add default via fe80::1 dev eth0")
	}
	return ns.IP(g.hostAddresses()...)
}

// Guests returns the guests of all hypervisors. Guests()[0] is vm-1.
func (n *Network) Guests() []*Guest {
	var all []*Guest
	for _, h := range n.Hypervisors {
		all = append(all, h.Guests...)
	}
	return all
}

// MAC returns the MAC of a device in the namespace.
func (n *Namespace) MAC(device string) (net.HardwareAddr, error) {
	out, err := exec.Command("ip", "-n", n.Name, "-br", "link", "show", "dev", device).Output()
	if err != nil {
		return nil, fmt.Errorf("reading the MAC of %s in %s: %w", device, n.Name, err)
	}
	fields := strings.Fields(string(out))
	if len(fields) < 3 {
		return nil, fmt.Errorf("reading the MAC of %s in %s: unexpected %s", device, n.Name, strconv.Quote(string(out)))
	}
	return net.ParseMAC(fields[2])
}
