// SPDX-License-Identifier: Apache-2.0

package dpdk

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestCarrier joins two interfaces, in a network namespace that ends with the test's thread.
func TestCarrier(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is of no use to others
		if !assert.NoError(t, unix.Unshare(unix.CLONE_NEWNET)) {
			return
		}
		checkCarrier(t)
	}()
	<-done
}

func checkCarrier(t *testing.T) {
	up := func(index int) bool {
		is, err := hasCarrier(index)
		assert.NoError(t, err)
		return is
	}
	assert.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there"}))
	here, err := netlink.LinkByName("here")
	assert.NoError(t, err)
	there, err := netlink.LinkByName("there")
	assert.NoError(t, err)
	index := here.Attrs().Index

	assert.False(t, up(index))
	assert.NoError(t, netlink.LinkSetUp(here))
	assert.False(t, up(index), "up, without a carrier")
	assert.NoError(t, netlink.LinkSetUp(there))
	assert.True(t, up(index))
	assert.NoError(t, netlink.LinkSetDown(there))
	assert.False(t, up(index), "at once")
	assert.NoError(t, netlink.LinkSetUp(there))
	assert.NoError(t, netlink.LinkSetDown(here))
	assert.False(t, up(index))
	assert.NoError(t, netlink.LinkDel(here))
	assert.False(t, up(index), "it is gone")
}
