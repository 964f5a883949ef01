// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/access"
	"dpservice/dpservice/config"
)

// goodSettings is the output of mstconfig for a card with the right settings.
const goodSettings = `
Device #1:
Configurations:                                      Next Boot
        NUM_OF_VFS                                  16
        SRIOV_EN                                    True(1)
        UCTX_EN                                     True(1)
`

// dpkgStatus is an extract of dpkg's list of packages.
const dpkgStatus = "Package: ibverbs-providers\nStatus: install ok installed\nVersion: 44.0-2\n\nPackage: x\n"

const (
	pf0 = "0000:03:00.0"
	pf1 = "0000:03:00.1"
)

// host is a simulated machine.
type host struct {
	files    fstest.MapFS
	cfg      config.Config
	dpdk     string
	settings string // mstconfig's output; empty: it is not installed
}

// ready returns a host with a ConnectX-6 Dx that is set up as docs/connectx.md describes.
func ready() *host {
	h := &host{files: fstest.MapFS{}, cfg: config.Default(), dpdk: "DPDK 22.11.11", settings: goodSettings}
	h.cfg.EAL = []string{
		"-l",
		"2,3,4",
		"-m",
		"2048",
		"-a",
		pf0 + ",dv_flow_en=1,representor=vf[0-1]",
		"-a",
		pf1 + ",dv_flow_en=1",
	}
	h.cfg.Ports = config.Ports{PF0: pf0, PF1: pf1, VFs: config.Patterns{pf0 + "_representor_vf*"}}
	h.cfg.Underlay.IP = netip.MustParseAddr("fc00:1::1")
	h.cfg.Access = []access.Rule{{Users: []string{"alice"}}, {Groups: []string{"tenants"}}}
	for path, text := range map[string]string{
		"proc/cmdline":                             "BOOT_IMAGE=/vmlinuz intel_iommu=on iommu=pt isolcpus=3,4",
		"proc/mounts":                              "hugetlbfs /dev/hugepages hugetlbfs rw 0 0",
		"proc/meminfo":                             "MemTotal: 65536 kB\nMemAvailable:   4194304 kB\n",
		"sys/devices/system/cpu/online":            "0-7",
		"sys/devices/system/cpu/isolated":          "3-4",
		"sys/class/iommu/dmar0/uevent":             "",
		"sys/module/mlx5_core/refcnt":              "1",
		"sys/module/mlx5_ib/refcnt":                "1",
		"sys/module/ib_uverbs/refcnt":              "1",
		"dev/infiniband/uverbs0":                   "",
		"var/lib/dpkg/status":                      dpkgStatus,
		"sys/bus/pci/devices/0000:00:1f.0/vendor":  "0x8086",
		pciDevices + "/" + pf0 + "/sriov_numvfs":   "2",
		pciDevices + "/" + pf0 + "/sriov_totalvfs": "16",
		"sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages":    "1024",
		"sys/devices/system/node/node0/hugepages/hugepages-1048576kB/free_hugepages": "0",
		"sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages":    "0",
		"sys/devices/system/node/online":                                             "0-1",
	} {
		h.set(path, text)
	}
	for address, name := range map[string]string{pf0: "enp3s0f0np0", pf1: "enp3s0f1np1"} {
		dir := pciDevices + "/" + address
		h.set(dir+"/vendor", mellanox)
		h.set(dir+"/device", "0x101d")
		h.set(dir+"/numa_node", "0")
		h.set(dir+"/infiniband/mlx5_"+name[7:8]+"/uevent", "")
		h.set("sys/class/infiniband/mlx5_"+name[7:8]+"/fw_ver", "22.35.1012")
		h.netdev(name, "0x1003", "1602", "p0", "0")
		h.set(dir+"/net/"+name+"/uevent", "")
	}
	h.set(netDevices+"/enp3s0f0np0/phys_switch_id", "abc")
	for _, name := range []string{"enp3s0f0npf0vf0", "enp3s0f0npf0vf1"} {
		h.netdev(name, "0x1003", "1500", "pf0vf"+name[14:], "1")
		h.set(netDevices+"/"+name+"/phys_switch_id", "abc")
		h.set(pciDevices+"/"+pf0+"/net/"+name+"/uevent", "")
	}
	return h
}

func (h *host) set(path, text string) { h.files[path] = &fstest.MapFile{Data: []byte(text + "\n")} }

func (h *host) netdev(name, flags, mtu, port, noIPv6 string) {
	for file, text := range map[string]string{"flags": flags, "mtu": mtu, "phys_port_name": port} {
		h.set(netDevices+"/"+name+"/"+file, text)
	}
	h.set(ipv6Settings+"/"+name+"/disable_ipv6", noIPv6)
}

func (h *host) drop(prefix string) {
	for path := range h.files {
		if strings.HasPrefix(path, prefix) {
			delete(h.files, path)
		}
	}
}

// names knows alice and the group tenants.
var names = access.Names{UID: knows("user", "alice"), GID: knows("group", "tenants")}

func knows(what, known string) func(string) (uint32, error) {
	return func(name string) (uint32, error) {
		if name != known {
			return 0, fmt.Errorf("%s %q: unknown", what, name)
		}
		return 1000, nil
	}
}

func (h *host) examine(err error) []Finding {
	run := func(_ context.Context, argv ...string) (string, error) {
		if argv[0] != "mstconfig" || h.settings == "" {
			return "", &exec.Error{Name: argv[0], Err: exec.ErrNotFound}
		}
		return h.settings, nil
	}
	m := Machine{Root: h.files, DPDK: h.dpdk, MaxPorts: 32, Names: names, Run: run}
	return Examine(context.Background(), m, h.cfg, err)
}

func TestReady(t *testing.T) {
	findings := ready().examine(nil)
	subjects := map[string]bool{}
	for _, f := range findings {
		assert.Equal(t, OK, f.Level, "%+v", f)
		assert.Empty(t, f.Fix)
		subjects[f.Subject] = true
	}
	for _, s := range []string{
		"configuration", "access", "versions", "CPUs", "hugepages", "kernel modules", "IOMMU",
		"firmware", "switchdev", "VFs", "kernel twins", "ports",
	} {
		assert.Contains(t, subjects, s)
	}
}

func TestNotReady(t *testing.T) {
	tests := map[string]struct {
		spoil     func(h *host)
		level     Level
		subject   string
		text, fix string
	}{
		"no EAL arguments": {func(h *host) { h.cfg.EAL = nil }, Failed, "configuration", "no arguments for EAL", "set eal"},
		"no such user": {func(h *host) { h.cfg.Access[0].Users[0] = "bob" }, Warning, "access",
			`access[0]: user "bob": unknown`, "create it"},
		"no such group": {func(h *host) { h.cfg.Access[1].Groups[0] = "guests" }, Warning, "access",
			`access[1]: group "guests": unknown`, "create it"},
		"old DPDK":       {func(h *host) { h.dpdk = "DPDK 22.11.9" }, Failed, "versions", "CVE-2025-23259", "22.11.10"},
		"race in ageing": {func(h *host) { h.dpdk = "DPDK 24.11.3" }, Warning, "versions", "ageing", "24.11.4"},
		"DPDK and rdma": {
			func(h *host) { h.dpdk = "DPDK 24.11.5" },
			Failed,
			"versions",
			"rdma-core 44.0-2: packets from the wire",
			"50",
		},
		"slow start": {func(h *host) { h.dpdk = "DPDK 24.11.5" }, Note, "versions", "a second to start", ""},
		"CPUs not there": {
			func(h *host) { h.set("sys/devices/system/cpu/online", "0-3") },
			Failed,
			"CPUs",
			"[4] are not online",
			"-l",
		},
		"one CPU": {
			func(h *host) { h.cfg.EAL = []string{"-l", "2"} },
			Failed,
			"CPUs",
			"none is left for a worker",
			"-l",
		},
		"no CPUs named": {func(h *host) { h.cfg.EAL = []string{"-a", pf0} }, Note, "CPUs", "all of 0-7", "-l"},
		"CPUs shared": {
			func(h *host) { h.set("sys/devices/system/cpu/isolated", "3") },
			Warning,
			"CPUs",
			"[4] also run",
			"isolcpus=3,4",
		},
		"no hugetlbfs": {func(h *host) { h.set("proc/mounts", "") }, Failed, "hugepages", "no hugetlbfs", "mount"},
		"few hugepages": {func(h *host) {
			h.set("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "100")
		}, Failed, "hugepages", "200 MiB are free, about 2048", "nr_hugepages"},
		"hugepages elsewhere": {
			func(h *host) { h.set(pciDevices+"/"+pf0+"/numa_node", "1") },
			Warning,
			"hugepages",
			"node 1",
			"nr_hugepages",
		},
		"little memory": {
			func(h *host) { h.cfg.EAL = []string{"--no-huge", "-m", "8000"} },
			Failed,
			"memory",
			"4096 MiB are available",
			"-m",
		},
		"no module": {
			func(h *host) { h.drop("sys/module/mlx5_ib") },
			Failed,
			"kernel modules",
			"mlx5_ib is not loaded",
			"modprobe mlx5_ib",
		},
		"no verbs device": {func(h *host) { h.drop("dev/infiniband") }, Failed, "kernel modules", "uverbs", "container"},
		"no IOMMU": {
			func(h *host) { h.drop("sys/class/iommu") },
			Failed,
			"IOMMU",
			"no VF can be passed",
			"intel_iommu=on",
		},
		"IOMMU for all": {func(h *host) { h.set("proc/cmdline", "quiet") }, Note, "IOMMU", "throughput", "iommu=pt"},
		"no card": {
			func(h *host) { h.drop(pciDevices) },
			Failed,
			"card",
			"no NVIDIA ConnectX",
			"dpservice-net-eswitch",
		},
		"other card": {
			func(h *host) { h.drop(pciDevices + "/" + pf1) },
			Failed,
			"card",
			"no ConnectX at " + pf1,
			"lspci",
		},
		"card not used": {
			func(h *host) { h.cfg.EAL = []string{"-l", "2,3,4"} },
			Note,
			"card",
			"uses none of " + pf0,
			"-a",
		},
		"old firmware": {
			func(h *host) { h.set("sys/class/infiniband/mlx5_0/fw_ver", "22.26.0001") },
			Failed,
			"firmware",
			"22.27.0090",
			"mstflint",
		},
		"no mstconfig": {func(h *host) { h.settings = "" }, Note, "firmware", "mstconfig", "apt install mstflint"},
		"no DevX": {func(h *host) {
			h.settings = strings.Replace(goodSettings, "UCTX_EN                                     True(1)", "", 1)
		},
			Failed, "firmware", "UCTX_EN=unknown", "set UCTX_EN=1, and reboot"},
		"flex parser": {func(h *host) {
			h.set(pciDevices+"/"+pf0+"/device", "0x1017")
			h.settings += "FLEX_PARSER_PROFILE_ENABLE  0\n"
		}, Failed, "firmware", "FLEX_PARSER_PROFILE_ENABLE=0", "FLEX_PARSER_PROFILE_ENABLE=2"},
		"legacy mode": {
			func(h *host) { h.drop(netDevices + "/enp3s0f0np0/phys_switch_id") },
			Failed,
			"switchdev",
			"legacy mode",
			"devlink",
		},
		"no VFs": {
			func(h *host) { h.set(pciDevices+"/"+pf0+"/sriov_numvfs", "0") },
			Failed,
			"VFs",
			"it can have 16",
			"sriov_numvfs",
		},
		"too few VFs": {
			func(h *host) { h.cfg.EAL[5] = pf0 + ",representor=vf[0-7]" },
			Failed,
			"VFs",
			"asks for 8",
			"representor=",
		},
		"no port of VF": {
			func(h *host) { h.cfg.EAL[5] = pf0 },
			Failed,
			"VFs",
			"asks for none of the 2",
			"representor=vf[0-1]",
		},
		"early VFs": {
			func(h *host) { h.drop(netDevices + "/enp3s0f0npf0vf1") },
			Failed,
			"VFs",
			"2 VFs, but 1 rep",
			"after the change",
		},
		"kernel speaks": {
			func(h *host) { h.set(ipv6Settings+"/enp3s0f0npf0vf1/disable_ipv6", "0") },
			Warning,
			"kernel twins",
			"solicitations",
			"sysctl",
		},
		"uplink down": {
			func(h *host) { h.set(netDevices+"/enp3s0f1np1/flags", "0x1002") },
			Failed,
			"kernel twins",
			"enp3s0f1np1 is down",
			"up",
		},
		"small MTU": {
			func(h *host) { h.set(netDevices+"/enp3s0f0np0/mtu", "1500") },
			Warning,
			"kernel twins",
			"MTU of 1500",
			"mtu 1602",
		},
		"no IPv6": {
			func(h *host) { h.set(ipv6Settings+"/enp3s0f0np0/disable_ipv6", "1") },
			Failed,
			"kernel twins",
			"router",
			"router_mac",
		},
		"not mlx5_core": {
			func(h *host) { h.drop(pciDevices + "/" + pf1 + "/net") },
			Failed,
			"kernel twins",
			"no interface",
			"mlx5_core",
		},
		"no room": {func(h *host) {
			h.cfg.EAL[5] = pf0 + ",representor=vf[0-30]"
		}, Failed, "ports", "asks for 33, this DPDK has room for 32", "max_ethports"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := ready()
			tt.spoil(h)
			findings := h.examine(nil)
			for _, f := range findings {
				if f.Level == tt.level && f.Subject == tt.subject && strings.Contains(f.Text, tt.text) &&
					strings.Contains(f.Fix, tt.fix) {
					return
				}
			}
			assert.Failf(t, "not found", "%+v", findings)
		})
	}
}

// The demo's configuration uses no card.
func TestSoftwareNIC(t *testing.T) {
	h := ready()
	h.drop(pciDevices)
	h.cfg.EAL = []string{
		"--no-huge",
		"-m",
		"512",
		"--no-pci",
		"--lcores=0@(0-1),1@3",
		"-d",
		"x.so",
		"--vdev=net_eswitch0,pf0=net_af_packet0",
	}
	findings := h.examine(nil)
	assert.Zero(t, Count(findings, Failed), "%+v", findings)
	assert.Contains(t, findings, Finding{Note, "card", "the configuration uses none: dpservice runs on net_eswitch0", ""})
}

// Without a valid configuration, the machine is still checked.
func TestNoConfiguration(t *testing.T) {
	h := ready()
	h.cfg = config.Default()
	findings := h.examine(errors.New("ports.pf0 is missing"))
	assert.Equal(t, Failed, findings[0].Level)
	assert.Equal(t, "ports.pf0 is missing", findings[0].Text)
	assert.Contains(t, findings, Finding{OK, "switchdev", pf0 + " is in switchdev mode", ""})
}

func TestNothingThere(t *testing.T) {
	h := &host{files: fstest.MapFS{}, cfg: config.Default()}
	assert.NotZero(t, Count(h.examine(fs.ErrNotExist), Failed))
}

func TestParseEAL(t *testing.T) {
	e := parseEAL(
		[]string{
			"-l",
			"0-2,5",
			"-a",
			"03:00.0,representor=[0,2-3],x=1",
			"--allow=0000:04:00.0,representor=vf3,y=[1]",
			"-m",
			"64",
		},
	)
	assert.Equal(t, []int{0, 1, 2, 5}, e.cpus)
	assert.Equal(t, []device{{pf0, 3}, {"0000:04:00.0", 1}}, e.devices)
	assert.Equal(t, 64, e.memoryMB)
	assert.Equal(t, []int{0, 1, 2, 5, 6}, parseEAL([]string{"--lcores", "0@(0,1),1@2,(3,4)@(5-6)"}).cpus)
	assert.Equal(t, ealArguments{noHuge: true, noPCI: true}, parseEAL([]string{"--no-huge", "--no-pci", "-m"}))
}

func TestWrite(t *testing.T) {
	var text strings.Builder
	require.NoError(t, Write(&text, []Finding{{OK, "VFs", "two", ""}, {Failed, "IOMMU", "none", "switch it on"}}))
	assert.Equal(
		t,
		"ok       VFs            two\nfailed   IOMMU          none\n                          do: switch it on\n",
		text.String(),
	)
}
