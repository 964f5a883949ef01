// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/rpc/server/servertest"
)

// counted returns a sample in which one VM has sent this many packets of 100 bytes to another.
func counted(at time.Time, packets uint64) *sample {
	flow := api.Flow{ID: 1, Interface: "vm-1", Proto: "udp", Src: "10.0.0.1", Dst: "10.0.0.2", SrcPort: 1, DstPort: 2,
		InPort: "vf0", OutPort: "vf1", Offloaded: true, Packets: packets, Bytes: 100 * packets}
	return &sample{
		at:    at,
		info:  api.SystemInfoResult{Version: "1.2.3", Offload: true, UptimeSeconds: 61},
		ports: []api.Port{{Name: "vf0", Role: "vf", Link: "up"}},
		stats: []api.PortStats{{Name: "vf0", RxPackets: packets, RxBytes: 100 * packets, RxMissed: packets / 10,
			TxPackets: 7}},
		interfaces: []api.Interface{{ID: "vm-1", Device: "vf0", VNI: 100}, {ID: "vm-2", Device: "vf1", VNI: 100}},
		flows:      []api.Flow{flow, {ID: 2, Proto: "tcp", Packets: 5}},
		captures: []api.CaptureSession{{Name: "default", Interfaces: []api.CaptureInterface{
			{CaptureTarget: api.CaptureTarget{VF: "vm-1"}, Direction: "rx", Port: "vf0", Packets: packets, Bytes: 100 * packets},
			{CaptureTarget: api.CaptureTarget{VF: "vm-1"}, Direction: "tx", Port: "vf0", Packets: 7, Bytes: 700},
		}}},
		drops: []api.GraphDrops{
			{Port: "pf", Reason: "unsupported", Packets: 9},
			{Interface: "vm-1", Port: "vf0", Reason: "spoofed", Packets: packets},
		},
	}
}

func TestRates(t *testing.T) {
	start := time.Unix(1000, 0)
	r := ratesBetween(counted(start, 1000), counted(start.Add(2*time.Second), 3000))
	want := rate{1000, 800_000}
	assert.Equal(t, want, r.ports[0].rx)
	assert.Equal(t, rate{}, r.ports[0].tx)
	assert.InDelta(t, 100, r.ports[0].dropped, 0)
	assert.Equal(t, want, r.interfaces[0].from)
	assert.Equal(t, rate{}, r.interfaces[0].to)
	assert.Equal(t, rate{}, r.interfaces[1].from)
	assert.Equal(t, want, r.interfaces[1].to)
	require.Len(t, r.flows, 1, "a silent flow is not shown")
	assert.Equal(t, want, r.flows[0].rate)
	assert.Equal(t, want, r.captures[0].rate)
	assert.Equal(t, rate{}, r.captures[1].rate, "the other direction")
	assert.Equal(t, "spoofed", r.drops[0].Reason, "the fastest first")
	assert.InDelta(t, 1000, r.drops[0].packets, 0)
	assert.Zero(t, r.drops[1].packets)
}

func TestRatesOfWhatIsNew(t *testing.T) {
	start := time.Unix(1000, 0)
	before, after := counted(start, 10), counted(start.Add(time.Second), 5)
	assert.Equal(t, rate{}, ratesBetween(before, after).ports[0].rx, "a counter that begins anew")
	assert.Empty(t, ratesBetween(after, after).flows, "no time has passed")

	before.flows, before.stats, before.drops = nil, nil, nil
	r := ratesBetween(before, after)
	assert.Equal(t, rate{}, r.ports[0].rx, "a port that was not there")
	require.Len(t, r.flows, 2)
	assert.Equal(t, rate{5, 4000}, r.flows[0].rate, "a new flow")
	assert.InDelta(t, 9, r.drops[0].packets, 0, "the first ones of a reason")
	before.moreFlows = true
	assert.Empty(t, ratesBetween(before, after).flows, "it may not be new")
}

func TestSI(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.04: "0", 0.5: "0.5", 9.94: "9.9", 12: "12", 999: "999", 1000: "1.0k",
		12_345: "12.3k", 999_400: "999k", 999_600: "1.0M", 1.5e9: "1.5G", 3e15: "3000T"} {
		assert.Equal(t, want, si(v))
	}
}

// model returns a screen of this size, one second after the first sample.
func model(width, height int) topModel {
	start := time.Unix(1000, 0)
	m := topModel{now: counted(start, 0), interval: time.Second}
	next, _ := m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	next, again := next.Update(looked{sample: counted(start.Add(time.Second), 1000)})
	if again == nil {
		panic("it does not look again")
	}
	return next.(topModel)
}

func TestView(t *testing.T) {
	view := model(120, 40).picture()
	for _, line := range []string{
		`^dpservice 1.2.3  up 1m1s  offload on  flows 2 `,
		`vf0 +vf0 +up +1\.0k +800k +0 +0 +100\n`,
		`vm-1 +vf0 +100 +1\.0k +800k +0 +0\n`,
		`vm-2 +vf1 +100 +0 +0 +1\.0k +800k\n`,
		`default +vm-1 +vf0 +1\.0k +800k +1000\n`,
		`vm-1 +vf0 +spoofed +1\.0k +1000\n- +pf +unsupported +0 +9\n`,
		`vm-1 +0 +udp +10\.0\.0\.1:1 +10\.0\.0\.2:2 +yes +1\.0k +800k`,
	} {
		assert.Regexp(t, line, view)
	}
}

// The picture fits into a screen of any size.
func TestViewFits(t *testing.T) {
	for width := 0; width <= 150; width += 15 {
		for height := range 40 {
			lines := strings.Split(model(width, height).picture(), "\n")
			require.LessOrEqual(t, len(lines), max(height, 1))
			for _, line := range lines {
				require.LessOrEqual(t, len(line), width)
			}
		}
	}
	m := model(80, 30)
	for id := range uint64(100) {
		m.rates.flows = append(m.rates.flows, flowRate{Flow: api.Flow{ID: id}})
	}
	assert.Regexp(t, `\.\.\. and [89]\d more$`, m.picture())
	assert.Len(t, strings.Split(m.picture(), "\n"), 30, "flows fill the rest of the screen")
}

func TestKeys(t *testing.T) {
	press := func(m tea.Model, key rune) (topModel, tea.Cmd) {
		next, cmd := m.Update(tea.KeyPressMsg{Code: key})
		return next.(topModel), cmd
	}
	m, cmd := press(model(80, 40), 's')
	assert.True(t, m.byBits)
	assert.Nil(t, cmd)
	m.rates.flows = []flowRate{{rate: rate{2, 1}}, {rate: rate{1, 2}}}
	assert.InDelta(t, 2, m.sortedFlows()[0].bits, 0)

	held, _ := press(m, ' ')
	assert.Contains(t, held.picture(), "held")
	next, cmd := held.Update(looked{sample: counted(time.Now(), 9)})
	assert.Equal(t, held.rates, next.(topModel).rates)
	assert.NotNil(t, cmd, "it goes on looking")

	_, cmd = press(m, 'q')
	assert.Equal(t, tea.Quit(), cmd())
}

// When the daemon ends, the last picture stays on the screen with a message.
func TestNoNews(t *testing.T) {
	next, cmd := model(80, 40).Update(looked{err: errors.New("no daemon\nat all")})
	assert.Contains(t, next.(topModel).picture(), "no news: no daemon\n")
	assert.Contains(t, next.(topModel).picture(), "vm-1")
	assert.NotNil(t, cmd)
}

// terminal is a tmux that runs dpctl top.
type terminal struct {
	t      *testing.T
	socket string
}

func startTop(t *testing.T, socket string) terminal {
	t.Helper()
	term := terminal{t, filepath.Join(servertest.SocketDir(t), "tmux")}
	command := fmt.Sprintf("%s --socket %s top --interval=100ms; echo ended with $?; cat", binary, socket)
	term.tmux("-f", "/dev/null", "new-session", "-d", "-x", "140", "-y", "40", command)
	t.Cleanup(func() { term.tmux("kill-server") })
	return term
}

func (term terminal) tmux(args ...string) string {
	term.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...).CombinedOutput()
	require.NoError(term.t, err, "tmux %v: %s", args, out)
	return string(out)
}

// wait waits until the screen matches a pattern, and returns its content.
func (term terminal) wait(pattern string) string {
	term.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		screen := term.tmux("capture-pane", "-p")
		if regexp.MustCompile(pattern).MatchString(screen) {
			return screen
		}
		require.True(term.t, time.Now().Before(end), "waiting for %s; the screen:\n%s", pattern, screen)
	}
}

// TestTopInATerminal uses the built program as a person does: read, resize the window, sort, quit.
func TestTopInATerminal(t *testing.T) {
	term := startTop(t, servertest.Start(t, servertest.New().Services()))
	term.wait(`(?s)^dpservice 1\.2\.3.*LOST/S\n.*net_eswitch0_representor_vf1 .*\nFLOW .* BITS/S\n`)
	term.tmux("resize-window", "-x", "50", "-y", "9")
	small := term.wait(`(?s)^dpservice 1\.2\.3.*\nPORT.*\n\.\.\. and 3 more`)
	assert.Len(t, strings.Split(strings.TrimSuffix(small, "\n"), "\n"), 9)
	term.tmux("resize-window", "-x", "140", "-y", "40")
	term.wait(`(?s)LOST/S\n.*net_eswitch0_representor_vf1 .*\nFLOW .* BITS/S\n`)
	term.tmux("send-keys", "s")
	term.wait(`by bits`)
	term.tmux("send-keys", "Space")
	term.wait(`held`)
	term.tmux("send-keys", "q")
	assert.NotContains(t, term.wait(`^ended with 0\n`), "dpservice", "the screen is as it was")
}

func TestTopWithoutDaemon(t *testing.T) {
	startTop(t, "/nonexistent/socket").wait(`(?s)no daemon at the socket /nonexistent/socket\n.*ended with 3\n`)
}
