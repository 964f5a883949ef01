// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dpservice/test/topology"

	"github.com/stretchr/testify/require"
)

// pingInterval is the real interval of a ping with 10 ms, the shortest interval for which ping sleeps, on a kernel with
// ticks of 4 ms.
const pingInterval = 16 * time.Millisecond

// ping sends a packet every pingInterval from one guest to an address.
type ping struct {
	b       *lab
	process *topology.Process
}

// pingCount returns how many packets a ping sends in d.
func pingCount(d time.Duration) int { return int(d / pingInterval) }

func (b *lab) startPing(from *topology.Guest, to string, d time.Duration, args ...string) *ping {
	b.t.Helper()
	argv := append([]string{"ping", "-n", "-q", "-i", "0.01", "-c", strconv.Itoa(pingCount(d)), "-W", "2"}, args...)
	p, err := from.Start(append(argv, to)...)
	require.NoError(b.t, err)
	return &ping{b, p}
}

// wait waits for the ping's end.
func (p *ping) wait() {
	p.b.t.Helper()
	r, err := p.process.Wait(p.b.ctx)
	require.NoError(p.b.t, err)
	require.NoError(p.b.t, r.Err())
}

// reach waits until one guest gets answers from an address.
func (b *lab) reach(from *topology.Guest, to string) {
	b.t.Helper()
	b.eventually(func() error {
		r, err := from.Run(b.ctx, "ping", "-n", "-c", "1", "-W", "1", to)
		if err != nil {
			return err
		}
		return r.Err()
	})
}

// iperf is an iperf3 client and its server.
type iperf struct {
	b              *lab
	server, client *topology.Process
}

// startIperf sends at rate (iperf3's notation) from one guest to another's address.
func (b *lab) startIperf(from, to *topology.Guest, address string, port int, d time.Duration, rate string,
	args ...string) *iperf {
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

// wait waits for the end of the run, and requires that it has transferred bytes.
func (i *iperf) wait() {
	i.b.t.Helper()
	r, err := i.client.Wait(i.b.ctx)
	require.NoError(i.b.t, err)
	var report struct {
		Error string `json:"error"`
		End   struct {
			SumReceived struct {
				Bytes int64 `json:"bytes"`
			} `json:"sum_received"`
			Sum struct {
				Packets int `json:"packets"`
			} `json:"sum"`
		} `json:"end"`
	}
	require.NoError(i.b.t, json.Unmarshal([]byte(r.Stdout), &report), "iperf3: %s%s", r.Stdout, r.Stderr)
	require.Empty(i.b.t, report.Error)
	require.NoError(i.b.t, r.Err())
	require.Positive(i.b.t, report.End.SumReceived.Bytes+int64(report.End.Sum.Packets))
	_, err = i.server.Wait(i.b.ctx)
	require.NoError(i.b.t, err)
}

// counters are the counters of a guest's kernel, by their names in /proc/net/snmp and snmp6.
type counters map[string]int64

func (b *lab) counters(g *topology.Guest) (counters, error) {
	r, err := g.Run(b.ctx, "cat", "/proc/net/snmp", "/proc/net/snmp6")
	if err != nil {
		return nil, err
	}
	c := counters{}
	var names []string
	for line := range strings.Lines(r.Stdout) {
		fields := strings.Fields(line)
		proto, isIPv4 := strings.CutSuffix(fields[0], ":")
		switch {
		case !isIPv4:
			c[fields[0]], err = strconv.ParseInt(fields[1], 10, 64)
		case names == nil:
			names = fields
		default:
			for i, f := range fields[1:] {
				if c[proto+names[i+1]], err = strconv.ParseInt(f, 10, 64); err != nil {
					break
				}
			}
			names = nil
		}
		if err != nil {
			return nil, fmt.Errorf("counters of %s: %w", g.ID, err)
		}
	}
	return c, nil
}

// balance returns how many packets of each kind the guests' kernels have sent but not received. When the guests are
// silent, each lost packet has increased it, and each duplicate decreased it. Unlike the reports of ping and iperf3, it
// does not depend on when a busy machine lets them run.
type balance struct {
	Echo4, Reply4, Echo6, Reply6, UDP, TCP int64
}

func (b *lab) balance() (balance, error) {
	var sum balance
	for _, g := range b.vms {
		c, err := b.counters(g)
		if err != nil {
			return sum, err
		}
		sum.Echo4 += c["IcmpMsgOutType8"] - c["IcmpMsgInType8"]
		sum.Reply4 += c["IcmpMsgOutType0"] - c["IcmpMsgInType0"]
		sum.Echo6 += c["Icmp6OutType128"] - c["Icmp6InType128"]
		sum.Reply6 += c["Icmp6OutType129"] - c["Icmp6InType129"]
		sum.UDP += c["UdpOutDatagrams"] + c["Udp6OutDatagrams"] - receivedUDP(c)
		sum.TCP += c["TcpOutSegs"] + c["TcpRetransSegs"] - c["TcpInSegs"]
	}
	return sum, nil
}

// receivedUDP returns the number of packets that the kernel has passed to UDP. UDP's own counter has only what a
// program has read, and iperf3 leaves some packets unread.
func receivedUDP(c counters) int64 {
	return c["IpInDelivers"] + c["Ip6InDelivers"] - c["IcmpInMsgs"] - c["Icmp6InMsgs"] - c["TcpInSegs"]
}

// losses starts to count lost packets between the guests. The returned function requires that there was none. The
// guests must be silent at both calls.
func (b *lab) losses() (requireNone func()) {
	b.t.Helper()
	before, err := b.balance()
	require.NoError(b.t, err)
	return func() {
		b.t.Helper()
		b.eventually(func() error {
			after, err := b.balance()
			if err == nil && after != before {
				err = fmt.Errorf("packets sent and not received: before %+v, after %+v", before, after)
			}
			return err
		})
	}
}
