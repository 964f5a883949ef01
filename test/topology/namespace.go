// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// commandTimeout bounds the short commands that build the network.
const commandTimeout = 10 * time.Second

// Namespace is a network namespace of a lab.
type Namespace struct {
	// Name is its name for `ip netns`.
	Name string
	lab  *Lab
}

// quiet are sysctls that stop the kernel of a new namespace from sending packets on its own: duplicate address
// detection, router solicitations, and answers for addresses of another device.
var quiet = []string{
	"net.ipv6.conf.default.accept_dad=0",
	"net.ipv6.conf.default.dad_transmits=0",
	"net.ipv6.conf.default.accept_ra=0",
	"net.ipv6.conf.default.autoconf=0",
	"net.ipv6.conf.default.router_solicitations=0",
	"net.ipv4.ip_forward=0",
}

// Namespace makes a network namespace with only a loopback device. It sets the sysctls before any device exists, so
// that devices inherit them.
func (l *Lab) Namespace(name string, sysctls ...string) (*Namespace, error) {
	ns := &Namespace{Name: l.id + "-" + name, lab: l}
	if err := l.command("ip", "netns", "add", ns.Name); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.namespaces = append(l.namespaces, ns.Name)
	l.mu.Unlock()
	if err := ns.command(append([]string{"sysctl", "-qw"}, append(quiet, sysctls...)...)...); err != nil {
		return nil, err
	}
	return ns, ns.IP("link set lo up")
}

// CommandLine returns the command line that runs argv in the namespace from the host.
func (n *Namespace) CommandLine(argv ...string) string {
	return strings.Join(inNamespace(n.Name, argv), " ")
}

// Start runs argv in the namespace.
func (n *Namespace) Start(argv ...string) (*Process, error) {
	return n.lab.start(n.Name, nil, argv...)
}

// Run runs argv in the namespace and waits for its end.
func (n *Namespace) Run(ctx context.Context, argv ...string) (Result, error) {
	return n.lab.run(ctx, n.Name, nil, argv...)
}

// IP runs `ip` commands in the namespace, one for each string.
func (n *Namespace) IP(commands ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	batch := strings.NewReader(strings.Join(commands, "\n") + "\n")
	r, err := n.lab.run(ctx, "", batch, "ip", "-n", n.Name, "-batch", "-")
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("ip in %s: %w", n.Name, err)
	}
	return nil
}

// command runs a short command in the namespace.
func (n *Namespace) command(argv ...string) error {
	return n.lab.command(append([]string{"ip", "netns", "exec", n.Name}, argv...)...)
}

// Link connects two namespaces by a veth pair. Checksum and segmentation offloads are off, so that a recording at
// either end shows the packets as on a wire.
func (l *Lab) Link(a *Namespace, aName string, b *Namespace, bName string, mtu int) error {
	m := strconv.Itoa(mtu)
	if err := l.command("ip", "link", "add", "name", aName, "mtu", m, "netns", a.Name,
		"type", "veth", "peer", "name", bName, "mtu", m, "netns", b.Name); err != nil {
		return err
	}
	for _, end := range []struct {
		ns  *Namespace
		dev string
	}{{a, aName}, {b, bName}} {
		if err := end.ns.command("ethtool", "-K", end.dev,
			"rx", "off", "tx", "off", "tso", "off", "gso", "off", "gro", "off", "sg", "off"); err != nil {
			return err
		}
		if err := end.ns.IP("link set " + end.dev + " up"); err != nil {
			return err
		}
	}
	return nil
}

// command runs a short command on the host, and returns an error if it fails.
func (l *Lab) command(argv ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	r, err := l.run(ctx, "", nil, argv...)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// removeNamespace kills the processes in the namespace, except this process itself, and deletes the namespace. It needs
// no other program than ip.
func removeNamespace(name string) error {
	pids, err := exec.Command("ip", "netns", "pids", name).Output()
	if err != nil {
		return fmt.Errorf("listing the processes of namespace %s: %w", name, err)
	}
	for _, field := range strings.Fields(string(pids)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("listing the processes of namespace %s: %w", name, err)
		}
		if pid == os.Getpid() {
			return fmt.Errorf("namespace %s stays: this process's main thread is in it", name)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ending process %d of namespace %s: %w", pid, name, err)
		}
	}
	if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
		return fmt.Errorf("deleting namespace %s: %w: %s", name, err, out)
	}
	return nil
}
