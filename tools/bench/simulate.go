// SPDX-License-Identifier: Apache-2.0

package main

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"text/tabwriter"
	"time"
)

// simulation simulates a hypervisor with many guests, whose flow sizes follow measurements of data centres, and
// computes the share of packets that the NIC forwards. No packet is sent, and time is simulated.
type simulation struct {
	Guests int             `json:"guests"`
	Time   float64         `json:"seconds"`
	Cases  []*simulatedMix `json:"cases"`
}

// simulatedMix is a mix of flows at a rate, under a control side of some speed.
type simulatedMix struct {
	Mix      string  `json:"mix"`
	Control  string  `json:"control"`
	Rate     int     `json:"flows_per_second"`
	MaxRules int     `json:"max_rules"`
	InNIC    float64 `json:"packets_in_nic"` // share of all packets
	Waiting  int     `json:"flows_waiting"`  // for their rules, the maximum
	Wait     latency `json:"wait_ms"`        // until a flow has its rule
	Rules    int     `json:"rules"`          // the maximum
	Refused  float64 `json:"flows_refused"`  // share of the flows without room for a rule
	CPU      float64 `json:"control_cpu"`    // share of a CPU
	Software float64 `json:"packets_per_second_in_software"`

	sizes   []sizeShare
	control controlSpeed
	seconds float64
}

// sizeShare is a point of a distribution: this percentage of the flows have at most this size.
type sizeShare struct{ bytes, percent float64 }

// mixes are the distributions in traffic_gen of the artefact of "HPCC" (Li et al., SIGCOMM 2019).
var mixes = []struct {
	name  string
	sizes []sizeShare
}{
	{"web search (Alizadeh et al., SIGCOMM 2010)", []sizeShare{
		{0, 0}, {10_000, 15}, {20_000, 20}, {30_000, 30}, {50_000, 40}, {80_000, 53}, {200_000, 60}, {1_000_000, 70},
		{2_000_000, 80}, {5_000_000, 90}, {10_000_000, 97}, {30_000_000, 100},
	}},
	{"Hadoop (Roy et al., SIGCOMM 2015)", []sizeShare{
		{0, 0}, {100, 1}, {200, 2}, {300, 5}, {350, 15}, {400, 20}, {500, 30}, {600, 40}, {700, 50}, {1000, 60}, {2000, 67},
		{7000, 70}, {30_000, 72}, {50_000, 82}, {80_000, 87}, {120_000, 90}, {300_000, 95}, {1_000_000, 97.5},
		{2_000_000, 99},
		{10_000_000, 100},
	}},
}

// controlSpeed is how fast rules are made and removed.
type controlSpeed struct {
	name     string
	atOnce   int     // flows in a batch
	batch    float64 // seconds that any batch takes: the wait for the worker's answer
	perFlow  float64 // seconds of CPU time
	maxRules int
}

// controls are the former control side, with one flow at a time, and the present one. The figures are from the part
// "offload".
var controls = []controlSpeed{
	{"one by one, 6,179/s", 1, 0, 1.0 / 6179, 32_768},
	{"one by one, 6,179/s", 1, 0, 1.0 / 6179, 1_000_000},
	{"in batches", 256, 60e-6, 5.5e-6, 32_768},
	{"in batches", 256, 60e-6, 5.5e-6, 1_000_000},
}

const (
	simulatedGuests = 126
	packetBytes     = 1460
	flowBitRate     = 1e9  // of an active flow
	closedFor       = 10.0 // seconds that a closed connection's rule stays: flows.timeouts.tcp_closing
)

var simulatedRates = []int{1_000, 10_000, 50_000}

func newSimulation(long time.Duration) *simulation {
	s := &simulation{Guests: simulatedGuests, Time: long.Seconds()}
	for _, mix := range mixes {
		for _, rate := range simulatedRates {
			for _, control := range controls {
				s.Cases = append(s.Cases, &simulatedMix{
					Mix: mix.name, Control: control.name, Rate: rate, MaxRules: control.maxRules,
					sizes: mix.sizes, control: control, seconds: long.Seconds(),
				})
			}
		}
	}
	return s
}

func (s *simulation) measure(ctx context.Context) error {
	for _, c := range s.Cases {
		c.play(rand.New(rand.NewPCG(1, 2))) // all see the same flows
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// simulatedFlow is a flow that sends its packets at regular intervals.
type simulatedFlow struct {
	begin   float64
	packets int
}

const packetGap = packetBytes * 8 / flowBitRate

func (f *simulatedFlow) end() float64 { return f.begin + float64(f.packets-1)*packetGap }

// before returns how many packets the flow has sent until a time.
func (f *simulatedFlow) before(at float64) int {
	return min(f.packets, max(0, int((at-f.begin)/packetGap)+1))
}

// moment is the time of an event: a flow begins, its rule is to be removed, or the control side has finished a batch.
type moment struct {
	at   float64
	what func()
}

type moments []moment

func (m moments) Len() int           { return len(m) }
func (m moments) Less(i, j int) bool { return m[i].at < m[j].at }
func (m moments) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *moments) Push(x any)        { *m = append(*m, x.(moment)) }
func (m *moments) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

// hypervisor is the state of the simulation.
type hypervisor struct {
	*simulatedMix
	random           *rand.Rand
	now              float64
	next             moments
	begun, gone      []*simulatedFlow // wait for the control side
	isBusy           bool
	busy             float64 // seconds
	rules            int
	flows, refused   int
	sent, inSoftware int
	waits            []time.Duration
}

func (c *simulatedMix) play(random *rand.Rand) {
	h := &hypervisor{simulatedMix: c, random: random}
	h.at(0, h.begin)
	for len(h.next) > 0 {
		m := heap.Pop(&h.next).(moment)
		if m.at > c.seconds {
			break
		}
		h.now = m.at
		m.what()
	}
	for _, f := range h.begun {
		h.inSoftware += f.packets
	}
	c.InNIC = 1 - float64(h.inSoftware)/float64(max(h.sent, 1))
	c.Refused = float64(h.refused) / float64(max(h.flows, 1))
	c.CPU, c.Software = h.busy/c.seconds, float64(h.inSoftware)/c.seconds
	if len(h.waits) > 0 {
		c.Wait = latencyOf(h.waits)
	}
}

func (h *hypervisor) at(when float64, what func()) { heap.Push(&h.next, moment{when, what}) }

// begin begins a flow, and schedules the next one: the connections of many guests form a Poisson process.
func (h *hypervisor) begin() {
	f := &simulatedFlow{begin: h.now, packets: 1 + int(h.size()/packetBytes)}
	h.flows++
	h.sent += f.packets
	h.begun = append(h.begun, f)
	h.Waiting = max(h.Waiting, len(h.begun))
	h.at(h.now+h.random.ExpFloat64()/float64(h.Rate), h.begin)
	h.control()
}

// size returns a random size of a flow, uniform between two points of the distribution.
func (h *hypervisor) size() float64 {
	percent := h.random.Float64() * 100
	i := slices.IndexFunc(h.sizes, func(s sizeShare) bool { return s.percent > percent })
	low, high := h.sizes[i-1], h.sizes[i]
	return low.bytes + (high.bytes-low.bytes)*(percent-low.percent)/(high.percent-low.percent)
}

// control starts the next batch, unless the control side is busy. Removals come first.
func (h *hypervisor) control() {
	if h.isBusy || len(h.begun)+len(h.gone) == 0 {
		return
	}
	leave := min(len(h.gone), h.simulatedMix.control.atOnce)
	come := min(len(h.begun), h.simulatedMix.control.atOnce-leave)
	cost := float64(leave+come) * h.simulatedMix.control.perFlow
	h.busy += cost
	h.isBusy = true
	begun := h.begun[:come]
	h.gone, h.begun = h.gone[leave:], h.begun[come:]
	h.at(h.now+h.simulatedMix.control.batch+cost, func() {
		h.isBusy = false
		h.rules -= leave
		for _, f := range begun {
			h.offload(f)
		}
		h.control()
	})
}

// offload puts a flow into the NIC, if there is room. Its rule is removed some time after its last packet.
func (h *hypervisor) offload(f *simulatedFlow) {
	if h.rules >= h.MaxRules {
		h.refused++
		h.inSoftware += f.packets
		return
	}
	h.rules++
	h.Rules = max(h.Rules, h.rules)
	h.inSoftware += f.before(h.now)
	h.waits = append(h.waits, time.Duration((h.now-f.begin)*float64(time.Second)))
	h.at(max(h.now, f.end()+closedFor), func() { h.gone = append(h.gone, f); h.control() })
}

func (s *simulation) table(w io.Writer) error {
	fmt.Fprintf(w, "Simulated: %d guests, %.0f s, flows of 1 Gbit/s, their rules stay %.0f s after the last packet\n\n",
		s.Guests, s.Time, closedFor)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MIX\tFLOWS/S\tCONTROL\tMAX RULES\tPACKETS IN NIC\tIN SOFTWARE/S\tWAITING\tWAIT P99 MS\t"+
		"RULES\tNO ROOM FOR\tCONTROL CPU")
	for _, c := range s.Cases {
		fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%.3f\t%.0f\t%d\t%.1f\t%d\t%.2f\t%.2f\n", c.Mix, c.Rate, c.Control,
			c.MaxRules, c.InNIC, c.Software, c.Waiting, c.Wait.P99, c.Rules, c.Refused, c.CPU)
	}
	return t.Flush()
}

// check accepts all figures: there is no goal.
func (s *simulation) check() error { return nil }
