// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"net"
	"testing"
	"time"

	"dpservice/test/record"
	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

var errNotFollowed = errors.New("no datagram to the new MAC")

// TestAGuestsMACChangesInPlace makes a guest send a single datagram from another MAC, without ARP. Packets to the guest
// are then sent to the new MAC, also by the NIC.
func TestAGuestsMACChangesInPlace(t *testing.T) {
	for name, noOffload := range map[string]bool{"offloaded": false, "in software": true} {
		t.Run(name, func(t *testing.T) {
			b := newLab(t, topology.DaemonConfig{NoOffload: noOffload}, 2)
			vm1, vm2 := b.vms[0], b.vms[1]
			guest, peer := b.craft(vm1), b.craft(vm2)
			b.reach(vm2, vm1.IPv4.String())
			if !noOffload {
				b.offloadDatagrams(peer, vm2.IPv4, vm1.IPv4)
			}
			guest.mac = net.HardwareAddr{0x02, 0, 0, 0, 0x77, 0x01}
			got := b.record(vm1.Namespace, "eth0", record.In, "udp and ether dst "+guest.mac.String())
			peer.udp(vm2.IPv4, vm1.IPv4, 64)
			frames, err := got.Frames()
			require.NoError(t, err)
			require.Empty(t, frames, "not known yet")

			time.Sleep(1100 * time.Millisecond) // a change is believed once a second, and the first was the guest's own
			guest.udp(vm1.IPv4, vm2.IPv4, 64)
			b.eventually(func() error {
				peer.udp(vm2.IPv4, vm1.IPv4, 64)
				frames, err := got.Frames()
				if err == nil && len(frames) == 0 {
					err = errNotFollowed
				}
				return err
			})
			b.stopRecording(got)
		})
	}
}
