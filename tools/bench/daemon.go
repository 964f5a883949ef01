// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"dpservice/rpc/api"
	"dpservice/rpc/client"
)

const (
	readyTimeout = 60 * time.Second
	endTimeout   = 20 * time.Second
)

// daemon is a dpservice that was started as by an operator, and a connection to it.
type daemon struct {
	*client.Client
	Startup time.Duration // until it answered

	dir    string // of its files
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	ended  chan error
}

// daemonConfig is the part of the configuration that differs between measurements.
type daemonConfig struct {
	lcores   string   // for EAL; empty: control and one worker
	ports    []string // devargs of net_pcap ports: PF0, then the VFs
	memory   int      // MiB
	mbufs    int
	capacity int // of the flow table
}

// twoLcores are the lcores of control and one worker.
const twoLcores = "0,1"

// ealArgs returns EAL's arguments for net_pcap ports, for dpservice and for the reference.
func ealArgs(prefix, lcores string, memory int, ports []string) []string {
	args := []string{"--no-huge", "-m", fmt.Sprint(memory), "--no-pci", "--no-telemetry", "--lcores", lcores,
		"--file-prefix", prefix}
	for i, devargs := range ports {
		args = append(args, fmt.Sprintf("--vdev=%s,%s", portName(i), devargs))
	}
	return args
}

func (c daemonConfig) file(dir string) string {
	var b strings.Builder
	b.WriteString("eal:\n")
	for _, arg := range ealArgs("bench", cmp.Or(c.lcores, twoLcores), c.memory, c.ports) {
		fmt.Fprintf(&b, "  - %q\n", arg)
	}
	fmt.Fprintf(&b, "ports:\n  pf0: %s\n  vfs:\n", portName(pf0))
	for i := range c.ports[1:] {
		fmt.Fprintf(&b, "    - %s\n", portName(i+1))
	}
	fmt.Fprintf(&b, "underlay: {ip: %q, router_mac: %q}\n", nodeIP, routerMAC)
	fmt.Fprintf(&b, "offload: false\nmbufs: %d\nflows: {capacity: %d}\n", c.mbufs, c.capacity)
	fmt.Fprintf(&b, "socket: %s\n", filepath.Join(dir, "dpservice.sock"))
	b.WriteString("rpc: {idle_timeout: 24h}\n") // the bench's client is idle while packets are measured
	return b.String()
}

// startDaemon starts the dpservice beside this program, with its files in dir, and waits until it answers.
func startDaemon(ctx context.Context, dir string, c daemonConfig) (*daemon, error) {
	return startWith(ctx, dir, c.file(dir))
}

// startWith starts dpservice with this configuration, in which the socket is dpservice.sock in dir.
func startWith(ctx context.Context, dir, config string) (*daemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "dpservice.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	d := &daemon{dir: dir, stderr: &bytes.Buffer{}, ended: make(chan error, 1)}
	d.cmd = exec.Command(filepath.Join(filepath.Dir(self), "dpservice"), "--config", file)
	d.cmd.Env = slices.DeleteFunc(os.Environ(),
		func(v string) bool { return strings.HasPrefix(v, "DPSERVICE_") }) // no settings
	d.cmd.Env = append(d.cmd.Env, "RUNTIME_DIRECTORY="+dir)
	d.cmd.Stderr = d.stderr
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := d.run(); err != nil {
		return nil, err
	}
	if err := d.connect(ctx, filepath.Join(dir, "dpservice.sock")); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	d.Startup = time.Since(start)
	return d, nil
}

// run starts the daemon. Linux sends it the death signal when the thread ends that has started it, so a thread is kept
// for that: those of senders end with them.
func (d *daemon) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := d.cmd.Start()
		started <- err
		if err == nil {
			d.ended <- d.cmd.Wait()
		}
	}()
	return <-started
}

// connect waits until the daemon answers on its socket.
func (d *daemon) connect(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		var err error
		if d.Client, err = client.Dial(ctx, socket); err == nil {
			if err = d.Call(ctx, api.MethodSystemInfo, nil, &api.SystemInfoResult{}); err == nil {
				return nil
			}
		}
		select {
		case end := <-d.ended:
			d.ended <- end
			return fmt.Errorf("dpservice ended at its start: %w: %s", err, d.stderr)
		case <-ctx.Done():
			return fmt.Errorf("dpservice does not answer: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
}

// stop ends the daemon by SIGTERM, as an operator does.
func (d *daemon) stop() error {
	if d.Client != nil {
		_ = d.Close() // what was called has been answered
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-d.ended:
		return err
	case <-time.After(endTimeout):
		killed := d.cmd.Process.Kill()
		ended := <-d.ended
		if errors.Is(killed, os.ErrProcessDone) {
			return ended
		}
		return errors.Join(errors.New("dpservice does not end; it was killed"), killed, ended)
	}
}

// attach creates interfaces for the guests behind the VFs, and routes to the guest on another hypervisor.
func (d *daemon) attach(ctx context.Context, device func(vf int) string) error {
	for _, vf := range []int{vf0, vf1} {
		err := d.Call(ctx, api.MethodInterfaceCreate, api.InterfaceCreateParams{
			ID: fmt.Sprintf("vm-%d", vf), Device: device(vf), VNI: vni, IPv4: guestIP[vf].String(),
			UnderlayIP: underlay[vf].String(), MAC: guestMAC(vf).String(),
		}, nil)
		if err != nil {
			return err
		}
	}
	return d.Call(ctx, api.MethodRouteAdd, api.Route{
		VNI: vni, Prefix: "10.0.1.0/24", NextHopVNI: vni, NextHopIP: remoteHop.String(),
	}, nil)
}

// nodes reads the counters of the packet graph's nodes.
func (d *daemon) nodes(ctx context.Context) (map[string]api.NodeStats, error) {
	var r api.GraphStatsResult
	if err := d.Call(ctx, api.MethodGraphStats, nil, &r); err != nil {
		return nil, err
	}
	nodes := map[string]api.NodeStats{}
	for _, n := range r.Nodes {
		nodes[n.Name] = n
	}
	return nodes, nil
}
