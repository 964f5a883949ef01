// SPDX-License-Identifier: Apache-2.0

// Package config is the daemon's configuration: a YAML file, overridden by DPSERVICE_* variables of the
// environment, overridden by flags.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dpservice/capture/spec"
	"dpservice/dpservice/access"
	"dpservice/dpservice/audit"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
	"dpservice/wire"
)

// DefaultPath is the file read when no other is named; it may be absent.
const DefaultPath = "/etc/dpservice/dpservice.yaml"

// Config is the whole configuration of the daemon.
type Config struct {
	EAL      []string `yaml:"eal"`
	Ports    Ports    `yaml:"ports"`
	Underlay Underlay `yaml:"underlay"`
	Offload  bool     `yaml:"offload"`
	Socket   string   `yaml:"socket"`
	State    string   `yaml:"state"` // the folder of what outlives the daemon; empty: systemd's, or none
	Flows    Flows    `yaml:"flows"`
	Capture  Capture  `yaml:"capture"`
	Guests   Guests   `yaml:"guests"`
	SlowPath SlowPath `yaml:"slow_path"`
	RPC      RPC      `yaml:"rpc"`
	// Access says who may do what over the socket. Nil: the members of the socket's group may do everything.
	Access   []access.Rule `yaml:"access"`
	Audit    string        `yaml:"audit"`     // where changes are written down: audit.Journal or a file's path; empty: nowhere
	Metrics  Listen        `yaml:"metrics"`   // where metrics are served; zero: nowhere
	Mbufs    int           `yaml:"mbufs"`     // packet buffers, shared by all ports
	MbufSize int           `yaml:"mbuf_size"` // smallest number of bytes that a packet buffer holds; 0: by the ports' MTUs
	LogLevel slog.Level    `yaml:"log_level"`
}

// Ports names the NIC's ports by ethdev name or kernel interface name.
type Ports struct {
	PF0 string   `yaml:"pf0"`
	PF1 string   `yaml:"pf1"` // empty: there is none
	VFs Patterns `yaml:"vfs"`
}

// Patterns are names, each possibly with the wildcards of path.Match.
type Patterns []string

// UnmarshalYAML accepts one pattern as well as a list.
func (p *Patterns) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if unmarshal(&one) == nil {
		*p = Patterns{one}
		return nil
	}
	return unmarshal((*[]string)(p))
}

// Underlay configures the network between the hypervisors.
type Underlay struct {
	IP        netip.Addr `yaml:"ip"`         // its /64 also gives the interfaces their underlay addresses
	RouterMAC wire.MAC   `yaml:"router_mac"` // zero ("auto"): dpservice finds it out
	// CheckSource drops packets from the underlay whose outer source is not the next hop of the route to the inner source.
	// It does not apply to UncheckedVNIs.
	CheckSource   bool     `yaml:"check_source"`
	UncheckedVNIs []uint32 `yaml:"unchecked_vnis"`
}

// ChecksSource reports whether the outer source of packets to a network is checked.
func (u Underlay) ChecksSource(vni uint32) bool {
	return u.CheckSource && !slices.Contains(u.UncheckedVNIs, vni)
}

// parseRouterMAC parses the address of the underlay's router. "auto" is the zero MAC: it is to be found out.
func parseRouterMAC(text string) (wire.MAC, error) {
	if text == "auto" {
		return wire.MAC{}, nil
	}
	mac, err := wire.ParseMAC(text)
	if err != nil || mac[0]&1 != 0 || mac == (wire.MAC{}) {
		return wire.MAC{}, fmt.Errorf("underlay.router_mac %q is neither \"auto\" nor a unicast MAC address", text)
	}
	return mac, nil
}

// Listen is a local address to listen at: a unix socket or a loopback address.
type Listen struct {
	Network string // unix or tcp
	Address string // a path, or an address and a port
}

// UnmarshalText parses unix:/PATH, or a loopback address with a port. Other addresses are refused, because there is no
// authentication.
func (l *Listen) UnmarshalText(text []byte) error {
	if path, ok := strings.CutPrefix(string(text), "unix:"); ok {
		if err := checkSocket(path); err != nil {
			return fmt.Errorf("metrics: %q: %w", text, err)
		}
		*l = Listen{"unix", path}
		return nil
	}
	addr, err := netip.ParseAddrPort(string(text))
	switch {
	case err != nil:
		return fmt.Errorf("metrics: %q is neither unix:/PATH nor an address with a port, such as 127.0.0.1:9464", text)
	case !addr.Addr().IsLoopback():
		return fmt.Errorf("metrics: %q is not a loopback address: other hosts could read the metrics", text)
	case addr.Port() == 0:
		return fmt.Errorf("metrics: %q has no port", text)
	}
	*l = Listen{"tcp", string(text)}
	return nil
}

// Flows bounds the flow table and the offload.
type Flows struct {
	Capacity   int           `yaml:"capacity"`    // flows known to the software path
	MaxOffload int           `yaml:"max_offload"` // flows with a rule in the NIC
	Timeout    time.Duration `yaml:"timeout"`     // idle time after which an offloaded flow is removed
	Timeouts   Timeouts      `yaml:"timeouts"`    // the same for flows in software
}

// Timeouts are the idle times after which flows in software are removed.
type Timeouts struct {
	TCPNew         time.Duration `yaml:"tcp_new"` // no more than a SYN was seen
	TCPEstablished time.Duration `yaml:"tcp_established"`
	TCPClosing     time.Duration `yaml:"tcp_closing"` // a FIN or RST was seen
	UDP            time.Duration `yaml:"udp"`
	ICMP           time.Duration `yaml:"icmp"`
	Other          time.Duration `yaml:"other"`
}

// each calls do for every timeout, in the order of the fields.
func (t *Timeouts) each(do func(key string, timeout *time.Duration)) {
	do("tcp_new", &t.TCPNew)
	do("tcp_established", &t.TCPEstablished)
	do("tcp_closing", &t.TCPClosing)
	do("udp", &t.UDP)
	do("icmp", &t.ICMP)
	do("other", &t.Other)
}

// Guests configures what guests get by DHCP and router advertisements.
type Guests struct {
	DNS       []netip.Addr  `yaml:"dns"`        // name servers, IPv4 and IPv6
	MTU       int           `yaml:"mtu"`        // bytes; 0: what fits
	LeaseTime time.Duration `yaml:"lease_time"` // whole seconds
	// GatewayPrefix has the gateways' IPv6 addresses, one for each VNI: the sources of ICMPv6 errors.
	GatewayPrefix netip.Prefix `yaml:"gateway_prefix"`
}

// SlowPath limits the frames that each port, a guest's or an uplink, passes to the slow path.
type SlowPath struct {
	Rate  int `yaml:"rate"`  // frames a second
	Burst int `yaml:"burst"` // frames at once
}

// RPC limits the clients of the socket.
type RPC struct {
	MaxClients        int           `yaml:"max_clients"`          // besides those for root and the daemon's user
	MaxClientsPerUser int           `yaml:"max_clients_per_user"` // no limit for root and the daemon's user
	IdleTimeout       time.Duration `yaml:"idle_timeout"`         // from an answer, or the start, to the next request
	RequestTimeout    time.Duration `yaml:"request_timeout"`      // from a request's first byte to its last
}

// Capture bounds the captures.
type Capture struct {
	MaxInterfaces int `yaml:"max_interfaces"` // captured at once, over all sessions
	MaxRules      int `yaml:"max_rules"`      // of a filter on an interface
}

// Default returns the configuration before file, environment and flags. The caller adds the socket, which clients know
// too.
func Default() Config {
	return Config{
		Underlay: Underlay{CheckSource: true},
		Offload:  true,
		Flows: Flows{
			Capacity: graph.DefaultFlowCapacity, MaxOffload: 131072, Timeout: 30 * time.Second,
			Timeouts: Timeouts{
				TCPNew: 30 * time.Second, TCPEstablished: 2 * time.Minute, TCPClosing: 10 * time.Second,
				UDP: 30 * time.Second, ICMP: 30 * time.Second, Other: 30 * time.Second,
			},
		},
		Capture:  Capture{MaxInterfaces: spec.DefaultMaxInterfaces, MaxRules: spec.DefaultMaxRules},
		Guests:   Guests{LeaseTime: 24 * time.Hour, GatewayPrefix: gatewayPrefix},
		SlowPath: SlowPath{Rate: graph.DefaultPuntRate, Burst: graph.DefaultPuntBurst},
		RPC:      RPC{MaxClients: 64, MaxClientsPerUser: 16, IdleTimeout: time.Minute, RequestTimeout: 10 * time.Second},
		Mbufs:    16384,
	}
}

// gatewayPrefix is the same on all nodes, so that the guests' gateway is. Its global ID is random, as RFC 4193 has it.
var gatewayPrefix = netip.MustParsePrefix("fdb4:384f:a8b2::/64")

// maxTimeout is what fits into the timeout of an rte_flow age action, in seconds.
const maxTimeout = (1<<24 - 1) * time.Second

// maxSoftTimeout is the longest timeout of a flow in software.
const maxSoftTimeout = 24 * time.Hour

// Bounds of the slow path. A burst occupies packet buffers.
const (
	maxRate  = 1000000
	maxBurst = 1024
)

// Bounds of sizes: far beyond what a NIC can use, and within what DPDK counts in 32 bits.
const (
	minMbufs      = 1024
	maxMbufs      = 1 << 24
	maxMbufMemory = 64 << 30 // bytes, of all packet buffers together
	maxFlows      = 1 << 24
	maxClients    = 4096
	minWait       = time.Second
	maxWait       = 24 * time.Hour
)

// leastMbuf is the smallest size of a packet buffer in bytes.
const leastMbuf = 2048

// maxSocketPath is the longest path in bytes that fits into struct sockaddr_un with its final zero.
const maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1

// checkSocket refuses a path that a unix socket cannot have, or that depends on where the daemon was started.
func checkSocket(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return errors.New("the path of a unix socket begins with a slash")
	case strings.HasSuffix(path, "/"):
		return errors.New("the path of a unix socket does not end with a slash")
	case len(path) > maxSocketPath:
		return fmt.Errorf("the path of a unix socket has at most %d bytes", maxSocketPath)
	default:
		return nil
	}
}

// maxMbufSize leaves room for a headroom within what DPDK counts in 16 bits.
const maxMbufSize = 65407

// validate reports everything that is wrong with cfg at once.
func (c *Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Ports.PF0 != "", "ports.pf0 is missing: it names the uplink")
	for _, p := range c.Ports.VFs {
		_, err := path.Match(p, "")
		check(err == nil && p != "", "ports.vfs: %q is not a pattern", p)
	}
	ip := c.Underlay.IP
	check(ip.Is6() && !ip.Is4In6() && ip.Zone() == "" && ip.IsGlobalUnicast(),
		"underlay.ip %q is not a global unicast IPv6 address", ip)
	for _, vni := range c.Underlay.UncheckedVNIs {
		check(vni >= 1 && vni <= vnet.MaxVNI, "underlay.unchecked_vnis: %d is not in 1..%d", vni, vnet.MaxVNI)
	}
	err := checkSocket(c.Socket)
	check(err == nil, "socket %q: %v", c.Socket, err)
	check(c.State == "" || path.IsAbs(c.State), "state %q: the path of the folder begins with a slash", c.State)
	c.RPC.validate(check)
	for i, r := range c.Access {
		for _, problem := range r.Validate() {
			check(false, "access[%d]: %s", i, problem)
		}
	}
	check(c.Audit == "" || c.Audit == audit.Journal || path.IsAbs(c.Audit),
		"audit %q is neither %q nor the path of a file, which begins with a slash", c.Audit, audit.Journal)
	check(c.Flows.Capacity >= 1 && c.Flows.Capacity <= maxFlows, "flows.capacity %d is not in 1..%d", c.Flows.Capacity,
		maxFlows)
	check(c.Flows.MaxOffload >= 0 && c.Flows.MaxOffload <= maxFlows, "flows.max_offload %d is not in 0..%d",
		c.Flows.MaxOffload, maxFlows)
	check(c.Flows.Timeout >= time.Second && c.Flows.Timeout <= maxTimeout && c.Flows.Timeout%time.Second == 0,
		"flows.timeout %v is not a number of seconds in 1s..%v", c.Flows.Timeout, maxTimeout)
	c.Guests.validate(check)
	check(c.SlowPath.Rate >= 1 && c.SlowPath.Rate <= maxRate, "slow_path.rate %d is not in 1..%d", c.SlowPath.Rate,
		maxRate)
	check(c.SlowPath.Burst >= 1 && c.SlowPath.Burst <= maxBurst, "slow_path.burst %d is not in 1..%d", c.SlowPath.Burst,
		maxBurst)
	c.Flows.Timeouts.each(func(key string, t *time.Duration) {
		check(*t >= time.Second && *t <= maxSoftTimeout, "flows.timeouts.%s %v is not in 1s..%v", key, *t, maxSoftTimeout)
	})
	check(c.Capture.MaxInterfaces >= 1 && c.Capture.MaxInterfaces <= spec.MaxInterfaces,
		"capture.max_interfaces %d is not in 1..%d", c.Capture.MaxInterfaces, spec.MaxInterfaces)
	check(c.Capture.MaxRules >= 1 && c.Capture.MaxRules <= spec.MaxRules,
		"capture.max_rules %d is not in 1..%d", c.Capture.MaxRules, spec.MaxRules)
	check(c.Mbufs >= minMbufs && c.Mbufs <= maxMbufs, "mbufs %d is not in %d..%d", c.Mbufs, minMbufs, maxMbufs)
	check(c.MbufSize >= 0 && c.MbufSize <= maxMbufSize, "mbuf_size %d is not in 0..%d", c.MbufSize, maxMbufSize)
	check(c.Mbufs > maxMbufs || c.Mbufs*max(c.MbufSize, leastMbuf) <= maxMbufMemory,
		"mbufs %d of mbuf_size %d take more than %d GiB", c.Mbufs, max(c.MbufSize, leastMbuf), maxMbufMemory>>30)
	return errors.Join(errs...)
}

// Bounds of what guests get.
const (
	minMTU         = 1280 // IPv6 wants that much
	maxMTU         = 65535
	minLeaseTime   = time.Minute
	maxLeaseTime   = (1<<32 - 2) * time.Second // one more would be for ever
	maxGatewayBits = 96                        // leaves room for a VNI
	maxDNS         = 3                         // name servers of a family: guests use no more
)

func (r *RPC) validate(check func(ok bool, format string, args ...any)) {
	check(r.MaxClients >= 1 && r.MaxClients <= maxClients, "rpc.max_clients %d is not in 1..%d", r.MaxClients, maxClients)
	check(r.MaxClientsPerUser >= 1 && r.MaxClientsPerUser <= maxClients,
		"rpc.max_clients_per_user %d is not in 1..%d", r.MaxClientsPerUser, maxClients)
	check(r.IdleTimeout >= minWait && r.IdleTimeout <= maxWait, "rpc.idle_timeout %v is not in %v..%v", r.IdleTimeout,
		minWait, maxWait)
	check(r.RequestTimeout >= minWait && r.RequestTimeout <= maxWait,
		"rpc.request_timeout %v is not in %v..%v", r.RequestTimeout, minWait, maxWait)
}

func (g *Guests) validate(check func(ok bool, format string, args ...any)) {
	families := map[bool]int{}
	for _, ip := range g.DNS {
		check(ip.IsGlobalUnicast() && !ip.Is4In6() && ip.Zone() == "", "guests.dns: %q is not a name server's address", ip)
		families[ip.Is4()]++
	}
	check(max(families[true], families[false]) <= maxDNS, "guests.dns has more than %d addresses of a family", maxDNS)
	p := g.GatewayPrefix
	check(p.IsValid() && p == p.Masked() && p.Addr().Is6() && !p.Addr().Is4In6() && p.Addr().IsGlobalUnicast() &&
		p.Bits() <= maxGatewayBits,
		"guests.gateway_prefix %q is not a global or unique-local IPv6 prefix of at most %d bits", p, maxGatewayBits)
	check(g.MTU == 0 || g.MTU >= minMTU && g.MTU <= maxMTU, "guests.mtu %d is not in %d..%d", g.MTU, minMTU, maxMTU)
	check(g.LeaseTime >= minLeaseTime && g.LeaseTime <= maxLeaseTime && g.LeaseTime%time.Second == 0,
		"guests.lease_time %v is not a number of seconds in %v..%v", g.LeaseTime, minLeaseTime, maxLeaseTime)
}
