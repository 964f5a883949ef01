// SPDX-License-Identifier: Apache-2.0

package neighbour

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// How a router is probed: the number of solicitations, and the time to answer each.
const (
	solicitations = 3
	answerTime    = 80 * time.Millisecond
)

// isAlive reports whether a router answers unicast neighbour solicitations at its MAC. It takes solicitations times
// answerTime at most, and wants CAP_NET_RAW.
func isAlive(index int, r Router) (alive bool, err error) {
	solicitation, err := solicit(index, r)
	if err != nil {
		return false, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("opening a packet socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IPV6), Ifindex: index}); err != nil {
		return false, fmt.Errorf("binding a packet socket to interface %d: %w", index, err)
	}
	for range solicitations {
		if _, err := unix.Write(fd, solicitation); err != nil {
			return false, fmt.Errorf("soliciting the router of interface %d: %w", index, err)
		}
		if alive, err := hears(fd, r); alive || err != nil {
			return alive, err
		}
	}
	return false, nil
}

func networkOrder(v uint16) uint16 { return v>>8 | v<<8 }

// hears waits for the router's answer.
func hears(fd int, r Router) (bool, error) {
	frame := make([]byte, 256)
	for end := time.Now().Add(answerTime); ; {
		left := time.Until(end)
		if left <= 0 {
			return false, nil
		}
		timeout := unix.NsecToTimeval(max(left, time.Microsecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return false, fmt.Errorf("setting a socket's timeout: %w", err)
		}
		n, err := unix.Read(fd, frame)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		case err != nil:
			return false, fmt.Errorf("reading from a packet socket: %w", err)
		case isAnswer(frame[:n], r):
			return true, nil
		}
	}
}

// isAnswer reports whether a frame is a neighbour advertisement of the router's, from its MAC.
func isAnswer(frame []byte, r Router) bool {
	const (
		ip            = 14 // offset of the IPv6 header
		icmp          = ip + 40
		target        = icmp + 8
		end           = target + 16
		hopLimit      = 255
		advertisement = 136
	)
	if len(frame) < end {
		return false
	}
	to := r.NextHop.As16()
	return bytes.Equal(frame[6:12], r.MAC[:]) && binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_IPV6 &&
		frame[ip+6] == unix.IPPROTO_ICMPV6 && frame[ip+7] == hopLimit && frame[icmp] == advertisement &&
		bytes.Equal(frame[target:end], to[:])
}

// solicit is the frame that asks a router itself, from the interface's own addresses.
func solicit(index int, r Router) ([]byte, error) {
	dev, err := net.InterfaceByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("interface %d: %w", index, err)
	}
	own, err := linkLocalOf(dev)
	if err != nil {
		return nil, err
	}
	eth := &layers.Ethernet{SrcMAC: dev.HardwareAddr, DstMAC: r.MAC[:], EthernetType: layers.EthernetTypeIPv6}
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: own.AsSlice(),
		DstIP: r.NextHop.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, fmt.Errorf("neighbour solicitation: %w", err)
	}
	buf := gopacket.NewSerializeBuffer()
	err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, icmp,
		&layers.ICMPv6NeighborSolicitation{
			TargetAddress: r.NextHop.AsSlice(),
			Options:       layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: dev.HardwareAddr}},
		})
	if err != nil {
		return nil, fmt.Errorf("neighbour solicitation: %w", err)
	}
	return buf.Bytes(), nil
}

func linkLocalOf(dev *net.Interface) (netip.Addr, error) {
	all, err := dev.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("addresses of %s: %w", dev.Name, err)
	}
	for _, a := range all {
		if p, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(p.IP); ok && ip.Is6() && ip.IsLinkLocalUnicast() {
				return ip, nil
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no link-local address", dev.Name)
}
