// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// ping sends packets every 10 ms from one guest to an address.
type ping struct {
	b       *bench
	process *topology.Process
}

func (b *bench) startPing(from *topology.Guest, to string, d time.Duration, args ...string) *ping {
	b.t.Helper()
	count := strconv.Itoa(int(d / (10 * time.Millisecond)))
	argv := append([]string{"ping", "-n", "-q", "-i", "0.01", "-c", count, "-W", "2"}, args...)
	p, err := from.Start(append(argv, to)...)
	require.NoError(b.t, err)
	return &ping{b, p}
}

var pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?`)

// lossless waits for the ping's end and requires an answer, one, to each packet.
func (p *ping) lossless() {
	p.b.t.Helper()
	r, err := p.process.Wait(p.b.ctx)
	require.NoError(p.b.t, err)
	m := pingSummary.FindStringSubmatch(r.Stdout)
	require.NotNil(p.b.t, m, "ping: %s%s", r.Stdout, r.Stderr)
	require.Equal(p.b.t, m[1], m[2], "ping lost packets: %s", r.Stdout)
	require.Empty(p.b.t, m[3], "ping got duplicates: %s", r.Stdout)
}

// reach waits until one guest gets answers from an address.
func (b *bench) reach(from *topology.Guest, to string) {
	b.t.Helper()
	b.eventually(func() error {
		r, err := from.Run(b.ctx, "ping", "-n", "-c", "1", "-W", "1", to)
		if err != nil {
			return err
		}
		return r.Err()
	})
}

// iperf is an iperf3 client and the server it talks to.
type iperf struct {
	b              *bench
	server, client *topology.Process
}

// startIperf sends at rate (iperf3's notation) from one guest to another's address.
func (b *bench) startIperf(from, to *topology.Guest, address string, port int, d time.Duration, rate string, args ...string) *iperf {
	b.t.Helper()
	server, err := to.Start("iperf3", "-s", "-1", "-p", strconv.Itoa(port), "--forceflush")
	require.NoError(b.t, err)
	require.NoError(b.t, server.WaitOutput(b.ctx, server.Stdout, "Server listening"))
	argv := []string{"iperf3", "-J", "-c", address, "-p", strconv.Itoa(port), "-b", rate,
		"-t", fmt.Sprint(d.Seconds())}
	client, err := from.Start(append(argv, args...)...)
	require.NoError(b.t, err)
	return &iperf{b, server, client}
}

// iperfReport is the part of iperf3's JSON report that the tests look at.
type iperfReport struct {
	Error string `json:"error"`
	End   struct {
		Sum struct {
			Packets     int `json:"packets"`
			LostPackets int `json:"lost_packets"`
		} `json:"sum"`
		SumSent struct {
			Bytes       int64 `json:"bytes"`
			Retransmits int   `json:"retransmits"`
		} `json:"sum_sent"`
		SumReceived struct {
			Bytes int64 `json:"bytes"`
		} `json:"sum_received"`
	} `json:"end"`
}

// report waits for the end of the run.
func (i *iperf) report() iperfReport {
	i.b.t.Helper()
	r, err := i.client.Wait(i.b.ctx)
	require.NoError(i.b.t, err)
	var report iperfReport
	require.NoError(i.b.t, json.Unmarshal([]byte(r.Stdout), &report), "iperf3: %s%s", r.Stdout, r.Stderr)
	require.Empty(i.b.t, report.Error)
	require.Zero(i.b.t, r.Code, r.Stderr)
	_, err = i.server.Wait(i.b.ctx)
	require.NoError(i.b.t, err)
	return report
}

// lossless requires that a UDP run has lost nothing.
func (i *iperf) lossless() {
	i.b.t.Helper()
	sum := i.report().End.Sum
	require.NotZero(i.b.t, sum.Packets)
	require.Zero(i.b.t, sum.LostPackets, "of %d packets", sum.Packets)
}
