// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// A setting is one value of the configuration that a flag and a variable of the environment can override.
type setting struct {
	flag  string
	usage string
	set   func(*Config, string) error
}

var settings = []setting{
	{"eal", "EAL `arguments`, separated by blanks", func(c *Config, v string) error {
		c.EAL = strings.Fields(v)
		return nil
	}},
	{"pf0", "the uplink's `name`", func(c *Config, v string) error { c.Ports.PF0 = v; return nil }},
	{"pf1", "`name` of the second PF", func(c *Config, v string) error { c.Ports.PF1 = v; return nil }},
	{"vfs", "VF representors: `patterns`, separated by commas", func(c *Config, v string) error {
		c.Ports.VFs = strings.Split(v, ",")
		return nil
	}},
	{"underlay-ip", "this node's underlay `address`", func(c *Config, v string) (err error) {
		c.Underlay.IP, err = netip.ParseAddr(v)
		return err
	}},
	{"router-mac", "the underlay router's `MAC`, or auto", func(c *Config, v string) (err error) {
		c.Underlay.RouterMAC, err = parseRouterMAC(v)
		return err
	}},
	{"check-source", "drop what the underlay brings from another one than the route leads to: `true or false`",
		func(c *Config, v string) (err error) {
			c.Underlay.CheckSource, err = strconv.ParseBool(v)
			return err
		}},
	{"unchecked-vnis", "networks in which that is not checked: `VNIs`, separated by commas",
		func(c *Config, v string) (err error) {
			c.Underlay.UncheckedVNIs, err = parseVNIs(v)
			return err
		}},
	{"offload", "put flows into the NIC as rules: `true or false`", func(c *Config, v string) (err error) {
		c.Offload, err = strconv.ParseBool(v)
		return err
	}},
	{"socket", "`path` of the JSON-RPC socket", func(c *Config, v string) error { c.Socket = v; return nil }},
	{"state", "`folder` in which interfaces, routes and captures are kept",
		func(c *Config, v string) error { c.State = v; return nil }},
	{"audit", "where changes and denials are written down: journal, or the `path` of a file",
		func(c *Config, v string) error { c.Audit = v; return nil }},
	{"metrics", "where Prometheus finds the metrics: `unix:/PATH`, or a loopback address with a port",
		func(c *Config, v string) error {
			return c.Metrics.UnmarshalText([]byte(v))
		}},
	{"flow-capacity", "largest `number` of flows", func(c *Config, v string) (err error) {
		c.Flows.Capacity, err = strconv.Atoi(v)
		return err
	}},
	{"flow-max-offload", "largest `number` of flows in the NIC", func(c *Config, v string) (err error) {
		c.Flows.MaxOffload, err = strconv.Atoi(v)
		return err
	}},
	{"flow-timeout", "`time` without a packet after which a flow in the NIC is forgotten",
		func(c *Config, v string) (err error) {
			c.Flows.Timeout, err = time.ParseDuration(v)
			return err
		}},
	{"guest-dns", "the guests' name servers: `addresses`, separated by commas", func(c *Config, v string) (err error) {
		c.Guests.DNS, err = parseAddrs(v)
		return err
	}},
	{"guest-mtu", "the guests' MTU in `bytes`; 0: as large as fits", func(c *Config, v string) (err error) {
		c.Guests.MTU, err = strconv.Atoi(v)
		return err
	}},
	{"guest-lease-time", "`time` for which a guest gets its addresses by DHCP", func(c *Config, v string) (err error) {
		c.Guests.LeaseTime, err = time.ParseDuration(v)
		return err
	}},
	{"guest-gateway-prefix", "IPv6 `prefix` that holds the address of each VNI's gateway",
		func(c *Config, v string) (err error) {
			c.Guests.GatewayPrefix, err = netip.ParsePrefix(v)
			return err
		}},
	timeoutSetting("tcp-new", "TCP connection without an answer", func(t *Timeouts) *time.Duration { return &t.TCPNew }),
	timeoutSetting("tcp-established", "TCP connection", func(t *Timeouts) *time.Duration { return &t.TCPEstablished }),
	timeoutSetting("tcp-closing", "TCP connection that ends", func(t *Timeouts) *time.Duration { return &t.TCPClosing }),
	timeoutSetting("udp", "UDP flow", func(t *Timeouts) *time.Duration { return &t.UDP }),
	timeoutSetting("icmp", "flow of ICMP or ICMPv6", func(t *Timeouts) *time.Duration { return &t.ICMP }),
	timeoutSetting("other", "flow of another protocol", func(t *Timeouts) *time.Duration { return &t.Other }),
	{"slow-path-rate", "largest `number` of frames a second that a port leaves to the slow path",
		func(c *Config, v string) (err error) {
			c.SlowPath.Rate, err = strconv.Atoi(v)
			return err
		}},
	{"slow-path-burst", "largest `number` of such frames at once", func(c *Config, v string) (err error) {
		c.SlowPath.Burst, err = strconv.Atoi(v)
		return err
	}},
	{"rpc-max-clients", "largest `number` of the socket's clients, without root and the daemon's user",
		func(c *Config, v string) (err error) {
			c.RPC.MaxClients, err = strconv.Atoi(v)
			return err
		}},
	{"rpc-max-clients-per-user", "largest `number` of them of a user", func(c *Config, v string) (err error) {
		c.RPC.MaxClientsPerUser, err = strconv.Atoi(v)
		return err
	}},
	{"rpc-idle-timeout", "`time` without a request after which a client is disconnected",
		func(c *Config, v string) (err error) {
			c.RPC.IdleTimeout, err = time.ParseDuration(v)
			return err
		}},
	{"rpc-request-timeout", "`time` for a client to send a request that it has begun",
		func(c *Config, v string) (err error) {
			c.RPC.RequestTimeout, err = time.ParseDuration(v)
			return err
		}},
	{"capture-max-interfaces", "`number` of interfaces that can be captured at once",
		func(c *Config, v string) (err error) {
			c.Capture.MaxInterfaces, err = strconv.Atoi(v)
			return err
		}},
	{"capture-max-rules", "`number` of rules that a capture's filter may take on an interface",
		func(c *Config, v string) (err error) {
			c.Capture.MaxRules, err = strconv.Atoi(v)
			return err
		}},
	{"mbufs", "`number` of packet buffers", func(c *Config, v string) (err error) {
		c.Mbufs, err = strconv.Atoi(v)
		return err
	}},
	{"mbuf-size", "`bytes` of a frame that a packet buffer holds at least", func(c *Config, v string) (err error) {
		c.MbufSize, err = strconv.Atoi(v)
		return err
	}},
	{"log-level", "`level`: debug, info, warn or error", func(c *Config, v string) error {
		return c.LogLevel.UnmarshalText([]byte(v))
	}},
}

func parseAddrs(v string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, text := range strings.Split(v, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		all = append(all, ip)
	}
	return all, nil
}

func parseVNIs(v string) ([]uint32, error) {
	var all []uint32
	for _, text := range strings.Split(v, ",") {
		vni, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
		if err != nil {
			return nil, err
		}
		all = append(all, uint32(vni))
	}
	return all, nil
}

// timeoutSetting is a timeout of flows in software.
func timeoutSetting(name, what string, field func(*Timeouts) *time.Duration) setting {
	usage := fmt.Sprintf("`time` without a packet after which a %s is forgotten in software", what)
	return setting{"flow-timeout-" + name, usage, func(c *Config, v string) (err error) {
		*field(&c.Flows.Timeouts), err = time.ParseDuration(v)
		return err
	}}
}

// variable is the name of the setting in the environment.
func (s setting) variable() string { return variable(s.flag) }

// prefix begins the names of all settings in the environment.
const prefix = "DPSERVICE_"

func variable(flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// AddFlags adds the configuration's flags to flags.
func AddFlags(flags *pflag.FlagSet) {
	flags.String("config", DefaultPath, "the configuration `file`")
	for _, s := range settings {
		flags.String(s.flag, "", s.usage)
	}
	flags.Lookup("offload").NoOptDefVal = "true"
	flags.Lookup("check-source").NoOptDefVal = "true"
}

// Load returns the configuration: file over defaults, environment over file, flags over environment. The flags are
// those of AddFlags, parsed; environ is os.Environ().
func Load(defaults Config, flags *pflag.FlagSet, environ []string) (Config, error) {
	if err := checkEnvironment(environ); err != nil {
		return Config{}, err
	}
	env := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	cfg := defaults
	if err := loadFile(flags, env, &cfg); err != nil {
		return Config{}, err
	}
	for _, s := range settings {
		value, source, ok := override(flags, env, s)
		if !ok {
			continue
		}
		if err := s.set(&cfg, value); err != nil {
			return Config{}, fmt.Errorf("%s: %w", source, err)
		}
	}
	if err := cfg.validate(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// loadFile reads the configured file, or the default one if it exists.
func loadFile(flags *pflag.FlagSet, env map[string]string, cfg *Config) error {
	name, explicit := DefaultPath, false
	if v, ok := env[variable("config")]; ok {
		name, explicit = v, true
	}
	if f := flags.Lookup("config"); f.Changed {
		name, explicit = f.Value.String(), true
	}
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) && !explicit {
		return nil
	}
	return load(name, cfg)
}

// override returns the value of a setting from the command line or else the environment, and which of the two it is
// from.
func override(flags *pflag.FlagSet, env map[string]string, s setting) (value, source string, ok bool) {
	if f := flags.Lookup(s.flag); f.Changed {
		return f.Value.String(), "--" + s.flag, true
	}
	value, ok = env[s.variable()]
	return value, s.variable(), ok
}
