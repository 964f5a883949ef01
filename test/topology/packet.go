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
	err = n.inside(func() error {
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

// inside runs do on a thread that is in the namespace, and ends with it.
func (n *Namespace) inside(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is of no use to others
		done <- func() error {
			ns, err := os.Open(filepath.Join("/run/netns", n.Name))
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return do()
		}()
	}()
	return <-done
}
