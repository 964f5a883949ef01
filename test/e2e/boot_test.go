// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dpservice/rpc/api"
	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// TestGuestsBoot starts guests without configuration, with real clients. They get their addresses by DHCP and their
// gateway by router advertisements, and reach each other, the gateway and a guest on another hypervisor, over IPv4 and
// IPv6.
func TestGuestsBoot(t *testing.T) {
	for name, noOffload := range map[string]bool{"offloaded": false, "in software": true} {
		t.Run(name, func(t *testing.T) {
			b := newLab(t, topology.DaemonConfig{
				NoOffload: noOffload, Guests: `{dns: ["10.100.0.53", "fd00:100::53"], mtu: 1400, lease_time: 1h}`,
			}, 2, 1)
			b.nameAndBoot(b.vms[0], "web", "10.100.0.9", "pxelinux.0")
			for _, vm := range b.vms {
				b.blank(vm)
			}
			leases := b.bootAll()
			require.Subset(t, leases[0], []string{
				"new_ip_address=10.100.0.1", "new_routers=169.254.0.1", "new_domain_name_servers=10.100.0.53",
				"new_interface_mtu=1400",
				"new_host_name=web", "new_tftp_server_name=10.100.0.9", "new_bootfile_name=pxelinux.0", "new_dhcp_lease_time=3600",
				"new_ip6_address=fd00:100::1", "new_dhcp6_name_servers=fd00:100::53",
			})
			for _, vm := range b.vms {
				b.hasGateway(vm)
			}
			b.allReachAll(!noOffload)
		})
	}
}

// TestRenewal makes a client renew its lease by unicast.
func TestRenewal(t *testing.T) {
	b := newLab(t, topology.DaemonConfig{}, 1)
	b.blank(b.vms[0])
	client, file := b.startUDHCPC(b.vms[0])
	b.waitLine(file, "bound 10.100.0.1 from 169.254.0.1")
	require.NoError(t, client.Signal(syscall.SIGUSR1))
	b.waitLine(file, "renew 10.100.0.1 from 169.254.0.1")
	b.reach(b.vms[0], "169.254.0.1")
}

// nameAndBoot creates a guest's interface again, with a host name and a file to boot from.
func (b *lab) nameAndBoot(vm *topology.Guest, hostname, server, file string) {
	b.t.Helper()
	var i api.Interface
	require.NoError(b.t, b.daemons[0].Call(b.ctx, api.MethodInterfaceGet, api.InterfaceID{ID: vm.ID}, &i))
	b.dpctl("interface", "delete", vm.ID)
	b.dpctl("interface", "create", vm.ID, "--device="+i.Device, fmt.Sprint("--vni=", i.VNI), "--ipv4="+i.IPv4,
		"--ipv6="+i.IPv6,
		"--underlay-ip="+i.UnderlayIP, "--hostname="+hostname, "--pxe-server="+server, "--pxe-filename="+file)
}

// blank removes the addresses and routes that the lab has set from a guest, and enables router solicitations again.
func (b *lab) blank(vm *topology.Guest) {
	b.t.Helper()
	require.NoError(b.t, vm.IP("link set eth0 down", "addr flush dev eth0"))
	r, err := vm.Run(b.ctx, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=2", "net.ipv6.conf.eth0.autoconf=1",
		"net.ipv6.conf.eth0.router_solicitations=3")
	require.NoError(b.t, err)
	require.NoError(b.t, r.Err())
	require.NoError(b.t, vm.IP("link set eth0 up"))
}

// bootAll runs dhclient in all guests at once, and returns what each has learned.
func (b *lab) bootAll() (leases [][]string) {
	b.t.Helper()
	var files []string
	for _, vm := range b.vms {
		files = append(files, b.startDhclient(vm, "-4"), b.startDhclient(vm, "-6"))
	}
	for i, vm := range b.vms {
		v4, v6 := files[2*i], files[2*i+1]
		b.waitLine(v4, "new_ip_address="+vm.IPv4.String())
		b.waitLine(v6, "new_ip6_address="+vm.IPv6.String())
		leases = append(leases, append(b.lines(v4), b.lines(v6)...))
	}
	return leases
}

// startDhclient starts ISC's client for an address family and returns the file with its lease.
func (b *lab) startDhclient(vm *topology.Guest, family string) string {
	b.t.Helper()
	testdata, err := filepath.Abs("testdata")
	require.NoError(b.t, err)
	base := b.net.Path(vm.ID + "-dhclient" + family)
	_, err = vm.Start("dhclient", family, "-d", "-cf", filepath.Join(testdata, "dhclient.conf"),
		"-sf", filepath.Join(testdata, "dhclient-script"), "-lf", base+".leases", "-pf", base+".pid",
		"-e", "RECORD="+base+".env", "eth0")
	require.NoError(b.t, err)
	return base + ".env"
}

// startUDHCPC starts BusyBox's client and returns the file with the events of its lease.
func (b *lab) startUDHCPC(vm *topology.Guest) (*topology.Process, string) {
	b.t.Helper()
	script, err := filepath.Abs("testdata/udhcpc-script")
	require.NoError(b.t, err)
	file := b.net.Path(vm.ID + "-udhcpc")
	p, err := vm.Start("env", "RECORD="+file, "udhcpc", "-f", "-i", "eth0", "-s", script, "-O", "mtu")
	require.NoError(b.t, err)
	return p, file
}

func (b *lab) lines(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // nothing yet
	}
	return strings.Split(string(text), "\n")
}

// waitLine waits until a file has a line.
func (b *lab) waitLine(file, want string) {
	b.t.Helper()
	b.eventually(func() error {
		lines := b.lines(file)
		for _, line := range lines {
			if line == want {
				return nil
			}
		}
		return fmt.Errorf("%s has no line %q: %q", file, want, lines)
	})
}

// hasGateway waits until a guest's kernel has taken gateway and MTU from a router advertisement, and checks that the
// kernel has generated no other address.
func (b *lab) hasGateway(vm *topology.Guest) {
	b.t.Helper()
	b.eventually(func() error {
		r, err := vm.Run(b.ctx, "sh", "-c", "ip -6 route show default; cat /proc/sys/net/ipv6/conf/eth0/mtu")
		if err != nil {
			return err
		}
		if !strings.Contains(r.Stdout, "via fe80::1 dev eth0 proto ra") || !strings.HasSuffix(r.Stdout, "\n1400\n") {
			return fmt.Errorf("no default route by router advertisement, or no MTU: %s", r.Stdout)
		}
		return nil
	})
	r, err := vm.Run(b.ctx, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global")
	require.NoError(b.t, err)
	require.Equal(b.t, 1, strings.Count(r.Stdout, "inet6"), r.Stdout)
}

// allReachAll sends from each guest to its gateway and to all other guests once. If offloaded is set, it then sends
// until the flows are in the NIC.
func (b *lab) allReachAll(offloaded bool) {
	b.t.Helper()
	for _, vm := range b.vms {
		b.reach(vm, "169.254.0.1")
		b.reach(vm, "fe80::1%eth0")
		for _, other := range b.vms {
			if other != vm {
				b.reach(vm, other.IPv4.String())
				b.reach(vm, other.IPv6.String())
			}
		}
	}
	noLosses := b.losses()
	vm1 := b.vms[0]
	for _, other := range b.vms[1:] {
		ping4 := b.startPing(vm1, other.IPv4.String(), time.Second, "-s", "1372", "-M", "do")
		ping6 := b.startPing(vm1, other.IPv6.String(), time.Second, "-s", "1352", "-M", "do")
		if offloaded {
			b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), other.IPv4.String())
			b.waitOffloaded(b.daemons[0], 1, "icmp", other.IPv4.String(), vm1.IPv4.String())
			b.waitOffloaded(b.daemons[0], 1, "icmp6", vm1.IPv6.String(), other.IPv6.String())
			b.waitOffloaded(b.daemons[0], 1, "icmp6", other.IPv6.String(), vm1.IPv6.String())
		}
		ping4.wait()
		ping6.wait()
	}
	noLosses()
}
