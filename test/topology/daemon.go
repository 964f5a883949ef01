// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"dpservice/rpc/api"
)

// readyTimeout is how long dpservice may take from its start to its first answer.
const readyTimeout = 20 * time.Second

// Daemon is a dpservice process on a hypervisor.
type Daemon struct {
	*Process
	Socket     string
	ConfigFile string

	hypervisor *Hypervisor
	binaries   string
	dir        string // of its configuration and the NIC's file
	prefix     []string
	env        []string
}

// DaemonConfig is the part of a daemon's configuration that tests choose.
type DaemonConfig struct {
	NoOffload   bool
	NoPF1       bool          // without PF1 there can be 15 VFs: Debian's DPDK has 32 ethdevs, including far sides
	FlowTimeout time.Duration // of offloaded flows, idle or ended; zero: dpservice's defaults
	Telemetry   bool          // DPDK's socket, to query the NIC and inject faults; always on if counters need it
	Guests      string        // the section "guests" of the configuration, in YAML's flow style; empty: none
	Underlay    string        // more keys of the section "underlay" of the configuration, in YAML's flow style
	NICArgs     string        // further arguments of the NIC, besides its ports
	Card        string        // the model of the NIC: cx5, cx6dx or cx7; empty: that of all labs
	FarSides    string        // the driver of net_eswitch's far sides, net_af_packet or net_pcap; empty: net_af_packet
	Lcores      string        // for EAL; empty: "0,1", control and one worker
	Plain       *PlainPorts   // used instead of the NIC, without offload
	Extra       string        // lines at the end of the configuration file
	Prefix      []string      // a command and its first arguments, which runs the daemon
}

// BuildDir returns the folder of the built binaries: build/ beside go.mod, or the value of DPLAB_BUILD.
func BuildDir() (string, error) {
	if dir := os.Getenv("DPLAB_BUILD"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the build folder: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "build"), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("finding the build folder: no go.mod here or above; set DPLAB_BUILD")
		}
		dir = parent
	}
}

// StartDaemon starts dpservice on the hypervisor, with the lab's NIC between its wires and guests, and waits until it
// answers on its socket.
func (h *Hypervisor) StartDaemon(ctx context.Context, c DaemonConfig) (*Daemon, error) {
	d, err := h.LaunchDaemon(c)
	if err != nil {
		return nil, err
	}
	if err := d.started(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// Restart starts an ended daemon again, with the same configuration and in the same folder, as a service manager does
// after a crash.
func (d *Daemon) Restart(ctx context.Context) error {
	if err := d.run(); err != nil {
		return err
	}
	return d.started(ctx)
}

// started waits until the daemon answers. If it does not answer in time, started ends it.
func (d *Daemon) started(ctx context.Context) error {
	if err := d.Ready(ctx); err != nil {
		return errors.Join(err, d.end())
	}
	return nil
}

// LaunchDaemon starts dpservice and does not wait for it. All daemons of a hypervisor use the same socket, but each has
// its own EAL files.
func (h *Hypervisor) LaunchDaemon(c DaemonConfig) (*Daemon, error) {
	build, err := BuildDir()
	if err != nil {
		return nil, err
	}
	h.launches++
	name := fmt.Sprintf("%s-%d", h.RouterLink, h.launches)
	dir := h.lab.Path(name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making dpservice's folder: %w", err)
	}
	nic := h.nic
	if err := copyFile(filepath.Join(build, nic.File), filepath.Join(dir, nic.File)); err != nil {
		return nil, err
	}
	d := &Daemon{
		Socket:     h.lab.Path(h.RouterLink + ".sock"),
		ConfigFile: filepath.Join(dir, "dpservice.yaml"),
		hypervisor: h,
		binaries:   build,
		dir:        dir,
		prefix:     c.Prefix,
	}
	ports, environment := nic.attach(nic, h, c, dir)
	if c.Plain != nil {
		ports = *c.Plain
		ports.EAL = append([]string{"--no-pci"}, ports.EAL...)
		for vf, g := range h.Guests {
			g.Device = ports.Device(vf)
		}
	} else {
		d.env = environment
	}
	if err := os.WriteFile(d.ConfigFile, []byte(h.config(dir, d.Socket, c, ports)), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	if err := d.run(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Daemon) run() (err error) {
	argv := append(slices.Clone(d.prefix), filepath.Join(d.binaries, "dpservice"), "--config", d.ConfigFile)
	if len(d.env) > 0 {
		argv = append(append([]string{"env"}, d.env...), argv...)
	}
	d.Process, err = d.hypervisor.Start(argv...)
	return err
}

// TelemetrySocket returns the path of DPDK's telemetry socket, which is there if DaemonConfig.Telemetry is set.
func (d *Daemon) TelemetrySocket() string {
	return d.hypervisor.lab.Path("dpdk/" + filepath.Base(d.dir) + "/dpdk_telemetry.v2")
}

// config returns the text of the configuration file.
func (h *Hypervisor) config(dir, socket string, c DaemonConfig, ports PlainPorts) string {
	eal := append([]string{"--no-huge", "-m", "256", "--lcores", cmp.Or(c.Lcores, "0,1"), "--file-prefix",
		filepath.Base(dir)}, ports.EAL...)
	if !c.Telemetry && (h.nic.CountersCommand == "" || c.Plain != nil) {
		eal = append(eal, "--no-telemetry")
	}
	var b strings.Builder
	b.WriteString("eal:\n")
	for _, arg := range eal {
		fmt.Fprintf(&b, "  - %q\n", arg)
	}
	fmt.Fprintf(&b, "ports: {%s}\n", ports.Names)
	fmt.Fprintf(&b, "underlay: {ip: %q, router_mac: auto, %s}\n", h.UnderlayIP, c.Underlay)
	fmt.Fprintf(&b, "offload: %t\n", !c.NoOffload && c.Plain == nil)
	if c.FlowTimeout != 0 {
		fmt.Fprintf(&b, "flows: {timeout: %[1]s, timeouts: {tcp_closing: %[1]s}}\n", c.FlowTimeout)
	}
	if c.Guests != "" {
		fmt.Fprintf(&b, "guests: %s\n", c.Guests)
	}
	fmt.Fprintf(&b, "socket: %s\n%s", socket, c.Extra)
	return b.String()
}

// Ready waits until the daemon answers. It returns an error if the daemon has ended or does not answer in time, and
// does not end the daemon then.
func (d *Daemon) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return d.waitReady(ctx)
}

func (d *Daemon) waitReady(ctx context.Context) error {
	return Until(ctx, func() error {
		select {
		case <-d.Done():
			return Permanent(fmt.Errorf("dpservice ended at its start: %s%s", d.Stdout, d.Stderr))
		default:
		}
		if _, err := os.Stat(d.Socket); err != nil {
			return fmt.Errorf("dpservice does not listen yet: %w", err)
		}
		return d.Call(ctx, api.MethodSystemInfo, nil, nil)
	})
}

// DpctlPath returns the path of the dpctl binary that was built with the daemon.
func (d *Daemon) DpctlPath() string { return filepath.Join(d.binaries, "dpctl") }

// Dpctl runs dpctl on the daemon's socket.
func (d *Daemon) Dpctl(ctx context.Context, args ...string) (Result, error) {
	argv := append([]string{d.DpctlPath(), "--socket", d.Socket}, args...)
	return d.hypervisor.lab.run(ctx, "", nil, argv...)
}

// Call calls a JSON-RPC method through `dpctl rpc` and puts its result into result, unless that is nil.
func (d *Daemon) Call(ctx context.Context, m api.AnyMethod, params, result any) error {
	method := m.Name()
	args := []string{"rpc", method}
	if params != nil {
		p, err := json.Marshal(params)
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		args = append(args, string(p))
	}
	r, err := d.Dpctl(ctx, args...)
	if err == nil {
		err = r.Err()
	}
	if err == nil && result != nil {
		err = json.Unmarshal([]byte(r.Stdout), result)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// CreateInterfaces creates an interface for each of the hypervisor's guests. It returns their underlay addresses by
// interface id.
func (d *Daemon) CreateInterfaces(ctx context.Context) (map[string]netip.Addr, error) {
	underlay := make(map[string]netip.Addr)
	for _, g := range d.hypervisor.Guests {
		var created struct {
			UnderlayIP netip.Addr `json:"underlay_ip"`
		}
		err := d.Call(ctx, api.MethodInterfaceCreate, map[string]any{
			"id": g.ID, "device": g.Device, "vni": g.VNI, "ipv4": g.IPv4, "ipv6": g.IPv6,
		}, &created)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", g.ID, err)
		}
		underlay[g.ID] = created.UnderlayIP
	}
	return underlay, nil
}

// AddRoutes routes the addresses of a guest on another hypervisor to its underlay address.
func (d *Daemon) AddRoutes(ctx context.Context, g *Guest, nextHop netip.Addr) error {
	for _, ip := range []netip.Addr{g.IPv4, g.IPv6} {
		err := d.Call(ctx, api.MethodRouteAdd, map[string]any{
			"vni": g.VNI, "prefix": netip.PrefixFrom(ip, ip.BitLen()), "next_hop_vni": g.VNI, "next_hop_ip": nextHop,
		}, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", g.ID, err)
		}
	}
	return nil
}

// Stop ends the daemon by SIGTERM, as an operator does.
func (d *Daemon) Stop(ctx context.Context) error {
	r, err := d.Process.Stop(ctx, syscall.SIGTERM)
	if err != nil {
		return err
	}
	return r.Err()
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copying the NIC's file: %w", err)
	}
	if err := os.WriteFile(to, data, 0o700); err != nil {
		return fmt.Errorf("copying the NIC's file: %w", err)
	}
	return nil
}

// Connect creates an interface for every guest on the daemon of its hypervisor, and routes to the guests of all others.
func Connect(ctx context.Context, n *Network, daemons []*Daemon) error {
	underlay := make(map[string]netip.Addr)
	for _, d := range daemons {
		created, err := d.CreateInterfaces(ctx)
		if err != nil {
			return err
		}
		maps.Copy(underlay, created)
	}
	for _, d := range daemons {
		for _, h := range n.Hypervisors {
			if h == d.hypervisor {
				continue
			}
			for _, g := range h.Guests {
				if err := d.AddRoutes(ctx, g, underlay[g.ID]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
