// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/test/topology"
)

// TestRouterChangesItsMAC gives the router another MAC while a flow to another hypervisor is in the NIC and captured. A
// second later all rules that encapsulate, those of the flow and of the capture, use the new MAC, and the guests reach
// each other.
func TestRouterChangesItsMAC(t *testing.T) {
	const newMAC = "02:00:00:00:be:ef"
	b := newLab(t, topology.DaemonConfig{}, 1, 1)
	vm1, vm2 := b.vms[0], b.vms[1]
	h := b.net.Hypervisors[0]
	old, err := b.net.Router.MAC(h.RouterLink)
	require.NoError(t, err)
	b.reach(vm1, vm2.IPv4.String())
	b.dpctl(captureStart("fc00:1::ffff", "--vf=vm-1", "--pf=0")...)
	p := b.startPing(vm1, vm2.IPv4.String(), 10*time.Second)
	b.waitOffloaded(b.daemons[0], 1, "icmp", vm1.IPv4.String(), vm2.IPv4.String())
	require.Equal(t, 3, b.rulesTo(old.String()), "the flow's, and one for each captured port")

	require.NoError(t, b.net.Router.IP(fmt.Sprintf("link set %s address %s", h.RouterLink, newMAC)))
	time.Sleep(time.Second)
	require.Equal(t, 3, b.rulesTo(newMAC))
	b.eventually(func() error { // those of the capture stay until their counters have been read
		if n := b.rulesTo(old.String()); n > 0 {
			return fmt.Errorf("%d rules send to the old MAC", n)
		}
		return nil
	})
	b.reach(vm1, vm2.IPv4.String())
	require.NoError(t, p.process.Signal(syscall.SIGINT))
	b.dpctl("capture", "stop")
}

// rulesTo counts the rules that encapsulate packets with this destination MAC.
func (b *lab) rulesTo(mac string) (n int) {
	b.t.Helper()
	for _, r := range b.rules() {
		if strings.Contains(r.Actions, "raw_encap { eth dst is "+mac) {
			n++
		}
	}
	return n
}
