// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// sendLabelled sends a datagram with a flow label, for which the address type of x/sys has no field.
func (r *reception) sendLabelled(fd int, label uint32, data []byte) {
	r.t.Helper()
	to := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: netip.IPv6Loopback().As16()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&to.Port))[:], r.port)
	binary.BigEndian.PutUint32((*[4]byte)(unsafe.Pointer(&to.Flowinfo))[:], label)
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), 0,
		uintptr(unsafe.Pointer(&to)), unix.SizeofSockaddrInet6)
	require.Zero(r.t, errno)
}
