// SPDX-License-Identifier: Apache-2.0

package model

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/plugin"
	"dpservice/test/report"
	"dpservice/test/topology"
)

var (
	cards        = flag.String("model.cards", "cx5,cx6dx,cx7", "the virtual ConnectX cards to compare net_eswitch with")
	cardDuration = flag.Duration("model.card-duration", 12*time.Second, "how long to compare with each of them")
)

// overhead is how long a process may take beside comparing: to start on a busy machine, and to shrink a case that
// fails.
const overhead = 2 * time.Minute

// The same rules and packets on net_eswitch, and on net_mlx5 over a virtual ConnectX, each in a process of its own: the
// card is preloaded, and there is one of a process.
func TestOnVirtualConnectX(t *testing.T) {
	for _, card := range strings.Split(*cards, ",") {
		t.Run(card, func(t *testing.T) { runOnCard(t, card) })
	}
}

func runOnCard(t *testing.T, card string) {
	library, err := plugin.Built("libconnectx.so")
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	lab, err := topology.New()
	require.NoError(t, err)
	defer func() { assert.NoError(t, lab.Close()) }()
	ns, err := lab.Namespace("card", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	require.NoError(t, err)
	config := "card=" + card
	for _, p := range testPorts {
		require.NoError(t, lab.Link(ns, farSide(p.name), ns, peer(p.name), 1500))
		config += fmt.Sprintf(",%s=%s", p.name, farSide(p.name))
	}
	ctx, cancel := context.WithTimeout(t.Context(), *cardDuration+overhead)
	defer cancel()
	process, err := ns.Start("env", cardVariable+"="+card, "LD_PRELOAD="+library, "CONNECTX="+config, self, "-test.v",
		"-test.run=^TestBothNICs$", fmt.Sprintf("-model.seed=%d", *seed),
		fmt.Sprintf("-model.card-duration=%v", *cardDuration))
	require.NoError(t, err)
	result, err := process.Wait(ctx)
	require.NoError(t, err, "%s%s", process.Stdout, process.Stderr)
	require.NoError(t, result.Err(), "%s%s", result.Stdout, result.Stderr)
	assert.NotContains(t, result.Stderr, "connectx: refused:", "the driver has asked for what the card does not know")
	require.Contains(t, result.Stdout, "--- PASS: TestBothNICs")
	fmt.Print(result.Stdout)
}

// TestBothNICs is what the process on a card runs.
func TestBothNICs(t *testing.T) {
	card := os.Getenv(cardVariable)
	if card == "" {
		t.Skip("TestOnVirtualConnectX runs this in another process")
	}
	first, n := compareFor(t, nics, *cardDuration)
	explained := 0
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(n.explained)) {
		explained += n.explained[reason]
		reasons = append(reasons, fmt.Sprintf("%d %s", n.explained[reason], reason))
	}
	report.Printf(t,
		"net_eswitch and net_mlx5 on %s: %d rules compared (%d refused, with the same errno): 0 differ unexplained, %d "+
			"explained %v; "+
			"%d packets (%d came out; not sent were %d that the two are known to differ in) and the counters compared "+
			"in %d cases from seed %d",
		card, n.rules, n.refusals, explained, reasons, n.packets, n.outputs, n.unsent, n.cases, first)
	require.NotZero(t, n.outputs)
}
