// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"slices"

	"dpservice/rpc/api"
)

// rate is a number of packets and bits per second.
type rate struct{ packets, bits float64 }

func (r rate) plus(other rate) rate { return rate{r.packets + other.packets, r.bits + other.bits} }

// rates are the changes between two samples.
type rates struct {
	ports      []portRates
	interfaces []interfaceRates
	flows      []flowRate // flows with traffic, those with the most packets first
	captures   []captureRate
	drops      []dropRate // those with the most packets a second first
}

type portRates struct {
	port    api.Port
	rx, tx  rate
	dropped float64 // packets that the port or its driver lost
}

type interfaceRates struct {
	api.Interface
	from, to rate // from and to the guest
}

type flowRate struct {
	api.Flow
	rate
}

type captureRate struct {
	session string
	point   api.CaptureInterface
	rate
}

type dropRate struct {
	api.GraphDrops
	packets float64 // a second
}

// period is the time between two samples in seconds.
type period float64

// grown returns the growth of a counter per second. If the counter went backwards, it was reset, so the growth is
// unknown and 0 is returned.
func (p period) grown(before, after uint64) float64 {
	if p <= 0 || after < before {
		return 0
	}
	return float64(after-before) / float64(p)
}

func (p period) rate(packets0, packets1, bytes0, bytes1 uint64) rate {
	return rate{p.grown(packets0, packets1), 8 * p.grown(bytes0, bytes1)}
}

func ratesBetween(a, b *sample) rates {
	p := period(b.at.Sub(a.at).Seconds())
	r := rates{ports: portRatesOf(p, a, b), captures: captureRatesOf(p, a, b), drops: dropRatesOf(p, a, b)}
	flows := flowRatesOf(p, a, b)
	r.interfaces = interfaceRatesOf(flows, b)
	for _, f := range flows {
		if f.packets > 0 {
			r.flows = append(r.flows, f)
		}
	}
	slices.SortStableFunc(r.flows, func(a, b flowRate) int { return cmp.Compare(b.packets, a.packets) })
	return r
}

// index returns a map of the elements by key.
func index[K comparable, T any](list []T, key func(T) K) map[K]T {
	m := make(map[K]T, len(list))
	for _, v := range list {
		m[key(v)] = v
	}
	return m
}

func portRatesOf(p period, a, b *sample) []portRates {
	name := func(s api.PortStats) string { return s.Name }
	before, after := index(a.stats, name), index(b.stats, name)
	return each(b.ports, func(port api.Port) portRates {
		s0, known := before[port.Name]
		s1 := after[port.Name]
		if !known {
			s0 = s1
		}
		lost := func(s api.PortStats) uint64 { return s.RxMissed + s.RxErrors + s.RxNoBuffer + s.TxErrors }
		return portRates{
			port: port,
			rx:   p.rate(s0.RxPackets, s1.RxPackets, s0.RxBytes, s1.RxBytes),
			tx:   p.rate(s0.TxPackets, s1.TxPackets, s0.TxBytes, s1.TxBytes), dropped: p.grown(lost(s0), lost(s1)),
		}
	})
}

// flowRatesOf returns the rates of flows. All packets of a new flow count. If sample a is incomplete, an unknown flow
// may be old, and its rate is 0.
func flowRatesOf(p period, a, b *sample) []flowRate {
	before := index(a.flows, func(f api.Flow) uint64 { return f.ID })
	return each(b.flows, func(f api.Flow) flowRate {
		f0, known := before[f.ID]
		if !known && a.moreFlows {
			f0 = f
		}
		return flowRate{f, p.rate(f0.Packets, f.Packets, f0.Bytes, f.Bytes)}
	})
}

// interfaceRatesOf adds up the traffic of the port of each guest, whether the NIC or the software forwarded it.
func interfaceRatesOf(flows []flowRate, b *sample) []interfaceRates {
	from, to := map[string]rate{}, map[string]rate{}
	for _, f := range flows {
		from[f.InPort] = from[f.InPort].plus(f.rate)
		to[f.OutPort] = to[f.OutPort].plus(f.rate)
	}
	return each(b.interfaces, func(i api.Interface) interfaceRates {
		return interfaceRates{i, from[i.Device], to[i.Device]}
	})
}

// dropRatesOf returns the rates of drops. One that was not counted before is new, since only 0 is left out.
func dropRatesOf(p period, a, b *sample) []dropRate {
	type key struct{ port, reason string }
	before := index(a.drops, func(d api.GraphDrops) key { return key{d.Port, d.Reason} })
	all := each(b.drops, func(d api.GraphDrops) dropRate {
		return dropRate{d, p.grown(before[key{d.Port, d.Reason}].Packets, d.Packets)}
	})
	slices.SortStableFunc(all, func(a, b dropRate) int {
		return cmp.Or(cmp.Compare(b.packets, a.packets), cmp.Compare(b.Packets, a.Packets))
	})
	return all
}

func captureRatesOf(p period, a, b *sample) []captureRate {
	type key struct{ session, point string }
	before := map[key]api.CaptureInterface{}
	for _, s := range a.captures {
		for _, i := range s.Interfaces {
			before[key{s.Name, pointName(i)}] = i
		}
	}
	var all []captureRate
	for _, s := range b.captures {
		for _, i := range s.Interfaces {
			i0 := before[key{s.Name, pointName(i)}]
			all = append(all, captureRate{s.Name, i, p.rate(i0.Packets, i.Packets, i0.Bytes, i.Bytes)})
		}
	}
	return all
}
