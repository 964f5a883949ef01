// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

// topFlows limits the flows that top reads per update, and so the load on the daemon.
const topFlows = 10 * api.MaxFlows

func (a *app) topCommand() *cobra.Command {
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the rates of ports, interfaces, drops, captures and flows",
		Long: fmt.Sprintf(`Watch the rates of ports, interfaces, captures and flows, in packets and bits per second, and which interface's packets the
software drops and why. What interfaces and flows show is software and NIC together; ports show what passes the software. Of
more than %d flows, the first so many are looked at.

Keys: q quits, s sorts flows by packets or by bits, space holds the picture.`, topFlows),
		Example: "  dpctl top\n  dpctl top --interval=5s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case interval < 100*time.Millisecond:
				return errors.New("--interval must be at least 100ms")
			case a.output != "table":
				return errors.New("dpctl top has one form only: leave -o out")
			case !isTerminal(os.Stdin), !isTerminal(os.Stdout):
				return errors.New("dpctl top needs a terminal: use port stats, flow list and capture status in scripts")
			}
			return a.top(cmd.Context(), interval)
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "how often to look")
	return cmd
}

func (a *app) top(ctx context.Context, interval time.Duration) error {
	first, err := a.sample(ctx)
	if err != nil {
		return err
	}
	m := topModel{interval: interval, look: func() (*sample, error) { return a.sample(ctx) }, now: first,
		rates: ratesBetween(first, first)}
	if _, err := tea.NewProgram(m, tea.WithContext(ctx)).Run(); err != nil && !errors.Is(err, tea.ErrInterrupted) {
		return failure{err}
	}
	return nil
}

// sample holds the counters of the daemon at one time.
type sample struct {
	at         time.Time
	info       api.SystemInfoResult
	ports      []api.Port
	stats      []api.PortStats
	interfaces []api.Interface
	flows      []api.Flow
	moreFlows  bool // the daemon has more flows than were read
	captures   []api.CaptureSession
	drops      []api.GraphDrops
}

// sample asks the daemon for everything that top shows.
func (a *app) sample(ctx context.Context) (*sample, error) {
	var s sample
	var ports api.PortListResult
	var stats api.PortStatsResult
	var interfaces api.InterfaceListResult
	var captures api.CaptureStatusResult
	var graph api.GraphStatsResult
	for _, get := range []struct {
		method api.AnyMethod
		result any
	}{
		{api.MethodSystemInfo, &s.info}, {api.MethodPortList, &ports}, {api.MethodPortStats, &stats},
		{api.MethodInterfaceList, &interfaces}, {api.MethodCaptureStatus, &captures},
		{api.MethodGraphStats, &graph},
	} {
		if err := a.get(ctx, get.method, nil, get.result); err != nil {
			return nil, err
		}
	}
	s.ports, s.stats, s.interfaces, s.captures = ports.Ports, stats.Ports, interfaces.Interfaces, captures.Sessions
	s.drops = graph.Drops
	s.at = time.Now() // approximately also the time of the flows, which are read next
	err := a.sampleFlows(ctx, &s)
	return &s, err
}

func (a *app) sampleFlows(ctx context.Context, s *sample) error {
	limit := api.MaxFlows
	p := api.FlowListParams{Limit: &limit}
	for {
		var page api.FlowListResult
		if err := a.get(ctx, api.MethodFlowList, p, &page); err != nil {
			return err
		}
		s.flows = append(s.flows, page.Flows...)
		p.Cursor, s.moreFlows = page.NextCursor, page.NextCursor != ""
		if !s.moreFlows || len(s.flows) >= topFlows {
			return nil
		}
	}
}

// get calls a method and decodes its result into result.
func (a *app) get(ctx context.Context, method api.AnyMethod, params, result any) error {
	raw, err := a.call(ctx, method, params)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, result); err != nil {
		return failure{fmt.Errorf("the daemon's answer: %w", err)}
	}
	return nil
}

// topModel is the state of the screen. It implements tea.Model.
type topModel struct {
	interval      time.Duration
	look          func() (*sample, error)
	width, height int
	now           *sample
	rates         rates
	err           error // error of the last update
	byBits        bool  // how flows are sorted
	held          bool
}

type (
	timeToLook struct{}
	looked     struct {
		sample *sample
		err    error
	}
)

// Init implements tea.Model.
func (m topModel) Init() tea.Cmd { return m.wait() }

func (m topModel) wait() tea.Cmd {
	return tea.Tick(m.interval, func(time.Time) tea.Msg { return timeToLook{} })
}

// Update implements tea.Model.
func (m topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "ctrl+c", "esc":
			return m, tea.Quit
		case "s":
			m.byBits = !m.byBits
		case "space":
			m.held = !m.held
		}
	case timeToLook:
		return m, func() tea.Msg {
			s, err := m.look()
			return looked{s, err}
		}
	case looked:
		m.err = msg.err
		if msg.err == nil && !m.held {
			m.rates = ratesBetween(m.now, msg.sample)
			m.now = msg.sample
		}
		return m, m.wait()
	}
	return m, nil
}
