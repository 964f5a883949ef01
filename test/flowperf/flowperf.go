// SPDX-License-Identifier: Apache-2.0

// Package flowperf runs dpdk-test-flow-perf, DPDK's own measurement of rte_flow, on the test NICs.
package flowperf

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dpservice/test/plugin"
	"dpservice/test/topology"
)

// The NIC's ports as dpdk-test-flow-perf numbers them.
const (
	PF0 = 0
	VF0 = 1
)

// Run is what to measure: so many rules on VF 0, each of the items and actions that the Rule names in the program's own
// options ("--ether", "--drop").
type Run struct {
	Rules  int
	Rule   []string
	Delete bool
	// Packets, unless it is 0, lets so many packets arrive once all rules are there, from the source addresses 0.0.0.0 and
	// up, and asks each rule what it has counted before it is deleted.
	Packets int
}

// Result is what the program said.
type Result struct {
	Inserted, Deleted int
	Insertion         time.Duration
	Deletion          time.Duration
	// Of a Run with Packets: the rules that were asked, those of them that do not count, those that have counted packets,
	// and what these counted together.
	Asked, Uncounted, Busy, Packets, Bytes int
	Output                                 string
}

//go:embed stage/stage.c
var stage []byte

// Installed is the program's needs in a private folder: the NIC's plugin, and the stage for its ports (see
// stage/stage.c).
type Installed struct {
	nic, stage string
	remove     func() error
}

// Install prepares for any number of Measure. On error nothing stays behind.
func Install(ctx context.Context) (*Installed, error) {
	nic, remove, err := plugin.Install()
	if err != nil {
		return nil, err
	}
	in := &Installed{nic: nic, stage: filepath.Join(filepath.Dir(nic), "librte_stage.so"), remove: remove}
	if err := in.build(ctx); err != nil {
		return nil, errors.Join(err, remove())
	}
	return in, nil
}

// Remove takes away what Install has made.
func (in *Installed) Remove() error { return in.remove() }

// build compiles the stage against the headers of drivers, which `make setup` has unpacked.
func (in *Installed) build(ctx context.Context) error {
	dpdk, err := plugin.Built("dpdk-src")
	if err != nil {
		return err
	}
	cflags, err := exec.CommandContext(ctx, "pkg-config", "--cflags", "libdpdk").Output()
	if err != nil {
		return fmt.Errorf("asking pkg-config for libdpdk: %w", err)
	}
	source := filepath.Join(filepath.Dir(in.stage), "stage.c")
	if err := os.WriteFile(source, stage, 0o600); err != nil {
		return err
	}
	args := append([]string{"-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-DALLOW_INTERNAL_API", "-o", in.stage,
		source},
		strings.Fields(string(cflags))...)
	for _, dir := range []string{"lib/eal/include", "lib/ethdev", "drivers/bus/vdev"} {
		args = append(args, "-idirafter", filepath.Join(dpdk, dir))
	}
	args = append(args, "-lrte_ethdev", "-lrte_bus_vdev", "-lrte_mbuf", "-lrte_mempool", "-lrte_ring", "-lrte_eal")
	if out, err := exec.CommandContext(ctx, "cc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("building the stage: %w: %s", err, out)
	}
	return nil
}

// EAL is the EAL's options for the NIC with a PF 0 and a VF 0, at the far sides of which nothing arrives. The ports'
// numbers are PF0 and VF0.
func (in *Installed) EAL(prefix string) []string {
	return in.eal(prefix, "net_null1,no-rx=1")
}

// eal is EAL with this device at VF 0's far side.
func (in *Installed) eal(prefix, far string) []string {
	device, _, _ := strings.Cut(far, ",")
	return []string{
		"--no-huge", "-m", "512", "--no-pci", "--no-telemetry", "--file-prefix", prefix, "-l", "0,1",
		"-d", in.stage, "-d", in.nic,
		"--vdev=net_reserve0,ports=2", "--vdev=net_null0,no-rx=1", "--vdev=" + far, "--vdev=net_yield0",
		"--vdev=net_eswitch0,pf0=net_null0,vf0=" + device, "--vdev=net_rss0",
	}
}

// Measure runs the program once.
func (in *Installed) Measure(ctx context.Context, run Run) (Result, error) {
	prefix := fmt.Sprintf("flowperf-%d", os.Getpid())
	defer os.RemoveAll(filepath.Join("/var/run/dpdk", prefix))
	args := in.EAL(prefix)
	if run.Packets > 0 {
		args = append(in.eal(prefix, "net_ring0"), fmt.Sprintf("--vdev=net_count0,packets=%d", run.Packets))
	}
	return measure(ctx, append([]string{"dpdk-test-flow-perf"}, args...), run)
}

// MeasureOnCard runs the program once on a virtual ConnectX of this profile (test/connectx), beneath the distribution's
// net_mlx5, with a PF 0 and a VF 0 at the far sides of which nothing arrives. It does not know Packets.
func MeasureOnCard(ctx context.Context, card string, run Run) (result Result, err error) {
	if run.Packets != 0 {
		return Result{}, errors.New("no packets arrive at the virtual card")
	}
	library, err := plugin.Built("libconnectx.so")
	if err != nil {
		return Result{}, err
	}
	lab, err := topology.New()
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	host, err := lab.Namespace("host", "net.ipv6.conf.default.disable_ipv6=1")
	if err != nil {
		return Result{}, err
	}
	for _, name := range []string{"pf0", "vf0"} {
		if err := lab.Link(host, "far-"+name, host, "end-"+name, 1500); err != nil {
			return Result{}, err
		}
	}
	return measure(ctx, []string{
		"ip", "netns", "exec", host.Name,
		"env", "RUNTIME_DIRECTORY=" + lab.Dir(), "CONNECTX=card=" + card + ",pf0=far-pf0,vf0=far-vf0",
		"LD_PRELOAD=" + library,
		"dpdk-test-flow-perf", "--no-huge", "-m", "512", "--no-telemetry", "-l", "0,1",
		"-a", "0000:03:00.0,dv_flow_en=1,dv_esw_en=1,representor=vf0",
	}, run)
}

// measure runs the program that command is up to EAL's options.
func measure(ctx context.Context, command []string, run Run) (Result, error) {
	args := append(slices.Clone(command), "--",
		fmt.Sprintf("--portmask=%#x", 1<<VF0), fmt.Sprintf("--rules-count=%d", run.Rules),
		fmt.Sprintf("--rules-batch=%d", run.Rules))
	if run.Delete {
		args = append(args, "--deletion-rate")
	}
	args = append(args, run.Rule...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Result{}, fmt.Errorf("dpdk-test-flow-perf: %w: %s", err, out)
	}
	return parse(string(out))
}

var (
	inserted = regexp.MustCompile(`Core 0 :: The time for creating (\d+) in rules ([0-9.]+) seconds`)
	deleted  = regexp.MustCompile(`Core 0 :: The time for deleting (\d+) rules is ([0-9.]+) seconds`)
	asked    = regexp.MustCompile(`asked (\d+) rules, (\d+) did not count, (\d+) had packets: (\d+) with (\d+) bytes`)
)

func parse(out string) (Result, error) {
	r := Result{Output: out}
	var ok bool
	if r.Inserted, r.Insertion, ok = figures(inserted, out); !ok {
		return Result{}, fmt.Errorf("dpdk-test-flow-perf did not say how long insertion took: %s", out)
	}
	r.Deleted, r.Deletion, _ = figures(deleted, out)
	found := asked.FindStringSubmatch(out)
	for i, to := range []*int{&r.Asked, &r.Uncounted, &r.Busy, &r.Packets, &r.Bytes} {
		if found != nil {
			*to, _ = strconv.Atoi(found[i+1])
		}
	}
	return r, nil
}

func figures(re *regexp.Regexp, out string) (rules int, took time.Duration, ok bool) {
	found := re.FindStringSubmatch(out)
	if found == nil {
		return 0, 0, false
	}
	rules, errRules := strconv.Atoi(found[1])
	seconds, errSeconds := strconv.ParseFloat(found[2], 64)
	return rules, time.Duration(seconds * float64(time.Second)), errRules == nil && errSeconds == nil
}
