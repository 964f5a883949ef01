// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// The network around the daemon: its ports, as net_pcap names and addresses them, the guests behind the VFs, and one on
// another hypervisor.
const (
	pf0 = iota
	vf0
	vf1
	nbPorts
)

const vni = 100

var (
	nodeIP    = netip.MustParseAddr("fc00:1::1")
	underlay  = [nbPorts]netip.Addr{vf0: netip.MustParseAddr("fc00:1::1:1"), vf1: netip.MustParseAddr("fc00:1::1:2")}
	guestIP   = [nbPorts]netip.Addr{vf0: netip.MustParseAddr("10.0.0.1"), vf1: netip.MustParseAddr("10.0.0.2")}
	remoteIP  = netip.MustParseAddr("10.0.1.1")
	remoteHop = netip.MustParseAddr("fc00:2::1:1")
	routerMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
)

func portName(port int) string { return fmt.Sprintf("net_pcap%d", port) }

// portMAC returns the MAC that net_pcap gives its n-th port.
func portMAC(port int) net.HardwareAddr { return net.HardwareAddr{2, 'p', 'c', 'a', 'p', byte(port)} }

func guestMAC(port int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 1, byte(port)} }

// path is a path of packets through the dataplane.
type path struct {
	name    string
	in, out int
	goal    float64                      // TSC cycles per packet in all nodes but rx and tx, at most
	outer   []gopacket.SerializableLayer // the outer headers
	src     netip.Addr
	dst     netip.Addr
}

var paths = []path{
	{
		name: "VF to VF", in: vf0, out: vf1, goal: 60, src: guestIP[vf0], dst: guestIP[vf1],
		outer: []gopacket.SerializableLayer{ethernet(guestMAC(vf0), portMAC(vf0), layers.EthernetTypeIPv4)},
	},
	{
		name: "VF to PF0", in: vf0, out: pf0, goal: 200, src: guestIP[vf0], dst: remoteIP,
		outer: []gopacket.SerializableLayer{ethernet(guestMAC(vf0), portMAC(vf0), layers.EthernetTypeIPv4)},
	},
	{
		name: "PF0 to VF", in: pf0, out: vf0, goal: 200, src: remoteIP, dst: guestIP[vf0],
		outer: []gopacket.SerializableLayer{
			ethernet(routerMAC, portMAC(pf0), layers.EthernetTypeIPv6),
			&layers.IPv6{
				Version: 6, NextHeader: layers.IPProtocolIPv4, HopLimit: 64,
				SrcIP: remoteHop.AsSlice(), DstIP: underlay[vf0].AsSlice(),
			},
		},
	},
}

func ethernet(src, dst net.HardwareAddr, next layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: next}
}

// fcsLen is the length of the frame check sequence, which counts to the size of a frame but is not visible to software.
const fcsLen = 4

// A flow's source port is one of portsUsed, from firstPort on.
const (
	firstPort = 1024
	portsUsed = 50_000
)

// flowOf returns the number of the flow with these ports.
func flowOf(src, dst uint16) int {
	return int(src) - firstPort + (int(dst)-firstPort)*portsUsed
}

// frame returns a UDP packet of one of the path's flows. size is that of the guest's frame.
func (p path) frame(flow, size int) ([]byte, error) {
	const headers = 14 + 20 + 8
	udp := &layers.UDP{
		SrcPort: layers.UDPPort(firstPort + flow%portsUsed), DstPort: layers.UDPPort(firstPort + flow/portsUsed),
	}
	ip := &layers.IPv4{
		Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice(),
	}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	payload := gopacket.Payload(make([]byte, size-fcsLen-headers))
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		append(append([]gopacket.SerializableLayer{}, p.outer...), ip, udp, payload)...)
	return buf.Bytes(), err
}

// writeFrames writes a file with frames of a number of flows, in rounds of one frame for each flow, in another order
// each time.
func (p path) writeFrames(name string, frames, flows, size int) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	w := pcapgo.NewWriter(file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	var turn []int
	for i := range frames {
		if i%flows == 0 {
			turn = random.Perm(flows)
		}
		frame, err := p.frame(turn[i%flows], size)
		if err != nil {
			return err
		}
		info := gopacket.CaptureInfo{Timestamp: time.Unix(0, 0), CaptureLength: len(frame), Length: len(frame)}
		if err := w.WritePacket(info, frame); err != nil {
			return err
		}
	}
	return file.Close()
}
