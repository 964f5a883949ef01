// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dpservice/rpc/api"
	"dpservice/test/plugin"
)

// captureTX measures how long a capture of what a guest receives takes to start and stop while many flows to the guest
// are in the test NIC, each of which gets another rule. It also measures how fast capture.status answers meanwhile.
type captureTX struct {
	Flows  int     `json:"flows"`
	Start  float64 `json:"start_ms"`
	Stop   float64 `json:"stop_ms"`
	Status latency `json:"status_meanwhile_ms"`
}

// The wire on which the frames of the flows reach the NIC. There are too many frames to replay a file.
const wireIn, wireOut = "dpbench0", "dpbench1"

func (c *captureTX) measure(ctx context.Context, dir string) (err error) {
	nic, remove, err := plugin.Install()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := ip("link", "add", wireIn, "address", portMAC(vf0).String(), "type", "veth", "peer", "name",
		wireOut); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ip("link", "del", wireIn)) }()
	if err := errors.Join(ip("link", "set", wireIn, "up"), ip("link", "set", wireOut, "up")); err != nil {
		return err
	}
	empty := filepath.Join(dir, "empty.pcap")
	if err := paths[0].writeFrames(empty, 0, 1, 64); err != nil {
		return err
	}
	d, err := startWith(ctx, dir, eswitchConfig(dir, nic, c.Flows, "net_pcap0,rx_pcap="+empty,
		"net_af_packet1,iface="+wireIn+",framecnt=2048", "net_pcap2,rx_pcap="+empty))
	if err != nil {
		return err
	}
	return errors.Join(c.run(ctx, d, filepath.Join(dir, "dpservice.sock")), d.stop())
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (c *captureTX) run(ctx context.Context, d *daemon, socket string) error {
	if err := d.attach(ctx, eswitchPort); err != nil {
		return err
	}
	if err := c.offload(ctx, d); err != nil {
		return err
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	answers := make(chan map[api.AnyMethod]answerTimes, 1)
	go func() { answers <- ask(asking, socket, []api.AnyMethod{api.MethodCaptureStatus}) }()
	begun := time.Now()
	err := d.Call(ctx, api.MethodCaptureStart, api.CaptureStartParams{
		SinkNodeIP: remoteHop.String(), UDPSrcPort: 3000, UDPDstPort: 3010, Direction: "tx",
		Interfaces: []api.CaptureSelector{{VF: fmt.Sprintf("vm-%d", vf1)}},
	}, nil)
	started := time.Now()
	if err == nil {
		err = d.Call(ctx, api.MethodCaptureStop, api.CaptureStopParams{}, nil)
	}
	stopped := time.Now()
	stop()
	a := (<-answers)[api.MethodCaptureStatus]
	if err := errors.Join(err, a.err); err != nil {
		return err
	}
	c.Start, c.Stop = milliseconds(started.Sub(begun)), milliseconds(stopped.Sub(started))
	c.Status = latencyOf(a.took)
	return nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// offload sends packets of the flows until all flows are in the NIC.
func (c *captureTX) offload(ctx context.Context, d *daemon) error {
	out, err := net.InterfaceByName(wireOut)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: out.Index}
	var info api.SystemInfoResult
	for deadline := time.Now().Add(offloadTimeout); time.Now().Before(deadline); {
		for flow := range c.Flows {
			frame, err := paths[0].frame(flow, 64)
			if err != nil {
				return err
			}
			if err := unix.Sendto(fd, frame, 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return os.NewSyscallError("sendto", err)
			}
		}
		if err := d.Call(ctx, api.MethodSystemInfo, nil, &info); err != nil {
			return err
		}
		if info.Flows.Rules >= c.Flows {
			return nil
		}
	}
	return fmt.Errorf("not all flows get into the NIC: %+v", info.Flows)
}
