// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// PacketSocket opens a socket that sends whole frames out of a device of the namespace. The caller closes it.
func (n *Namespace) PacketSocket(device string) (fd int, err error) {
	err = n.Inside(func() error {
		dev, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: dev.Index}); err != nil {
			return fmt.Errorf("%w (closing: %v)", err, unix.Close(fd)) //nolint:errorlint // the first one counts
		}
		return nil
	})
	if err != nil {
		return -1, fmt.Errorf("packet socket on %s in %s: %w", device, n.Name, err)
	}
	return fd, nil
}

// ListenUDP opens a UDP socket at an address of the namespace, such as "[fd00::1]:0". The caller closes it.
func (n *Namespace) ListenUDP(address string) (conn net.PacketConn, err error) {
	err = n.Inside(func() error {
		conn, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("UDP socket in %s: %w", n.Name, err)
	}
	return conn, nil
}

// Inside runs do on a thread that is in the namespace. Sockets that do opens stay in the namespace. The thread must not
// end: the kernel would send the death signal to the processes that it has started.
func (n *Namespace) Inside(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	err = n.enter(do)
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(fmt.Sprintf("a thread is lost in %s: %v", n.Name, back))
	}
	return err
}

// enter moves the thread into the namespace, and runs do there.
func (n *Namespace) enter(do func() error) error {
	ns, err := os.Open(filepath.Join("/run/netns", n.Name))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return do()
}
