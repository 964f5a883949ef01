// SPDX-License-Identifier: Apache-2.0

package vnet

import (
	"net/netip"
	"regexp"

	"dpservice/dpservice/fault"
)

// MaxVNI is the largest virtual network identifier.
const MaxVNI = 1<<24 - 1

const maxHostname = 63

var idSyntax = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

func (r CreateRequest) validate() error {
	invalid := func(format string, args ...any) error {
		return fault.New(fault.InvalidParams, r.ID, format, args...)
	}
	switch {
	case !idSyntax.MatchString(r.ID):
		return invalid("id %.80q is not 1 to 63 letters, digits, '.', '_' or '-'", r.ID)
	case !vniOK(r.VNI):
		return invalid("vni %d is not in 1..%d", r.VNI, MaxVNI)
	case !r.IPv4.IsValid() && !r.IPv6.IsValid():
		return invalid("the guest has neither an ipv4 nor an ipv6 address")
	case r.IPv4.IsValid() && !ipv4OK(r.IPv4):
		return invalid("ipv4 %s is not a unicast IPv4 address that a guest can have", r.IPv4)
	case r.IPv6.IsValid() && !ipv6OK(r.IPv6):
		return invalid("ipv6 %s is not a unicast IPv6 address that a guest can have", r.IPv6)
	case r.UnderlayIP.IsValid() && !ipv6OK(r.UnderlayIP):
		return invalid("underlay_ip %s is not a unicast IPv6 address", r.UnderlayIP)
	case r.GuestMAC[0]&1 != 0:
		return invalid("mac %s is a group address", r.GuestMAC)
	case r.Hostname != "" && (len(r.Hostname) > maxHostname || !hostName.MatchString(r.Hostname)):
		return invalid("hostname %.80q is not a host name of at most %d characters", r.Hostname, maxHostname)
	case !r.PXE.valid():
		return invalid("pxe wants a server, an address or a host name of at most %d characters, and a filename, printable "+
			"and of at most %d characters; only with a URL as filename can the server be left out", maxBootServer, maxBootFile)
	}
	return nil
}

func (r Route) validate() error {
	invalid := func(format string, args ...any) error {
		return fault.New(fault.InvalidParams, "", format, args...)
	}
	switch {
	case !vniOK(r.VNI):
		return invalid("vni %d is not in 1..%d", r.VNI, MaxVNI)
	case !vniOK(r.NextHopVNI):
		return invalid("next_hop_vni %d is not in 1..%d", r.NextHopVNI, MaxVNI)
	case !r.Prefix.IsValid() || r.Prefix.Addr().Is4In6():
		return invalid("prefix %s is not an IPv4 or IPv6 prefix", r.Prefix)
	case r.Prefix != r.Prefix.Masked():
		return invalid("prefix %s has bits behind its length; the network is %s", r.Prefix, r.Prefix.Masked())
	case r.Prefix.Addr().IsMulticast():
		return invalid("prefix %s is multicast", r.Prefix)
	case !ipv6OK(r.NextHopIP):
		return invalid("next_hop_ip %s is not a unicast IPv6 address", r.NextHopIP)
	}
	return nil
}

func vniOK(vni uint32) bool { return vni >= 1 && vni <= MaxVNI }

func ipv4OK(ip netip.Addr) bool { return ip.Is4() && Routable(ip) }

func ipv6OK(ip netip.Addr) bool { return ip.Is6() && ip.Zone() == "" && Routable(ip) }

// Routable reports whether routers forward to an address, and a guest can have it. The packet graph knows the same.
func Routable(ip netip.Addr) bool {
	if ip.Is4() {
		return ip.IsGlobalUnicast() && ip.As4()[0] != 0 && ip.As4()[0] < 224
	}
	return ip.IsGlobalUnicast() && !ip.Is4In6()
}
