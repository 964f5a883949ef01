// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/rpc/client"
	"dpservice/test/report"
	"dpservice/test/topology"
)

// killsEnv has how often TestRandomKills kills the daemon, if not as often as usual.
const (
	killsEnv   = "DPSERVICE_KILLS"
	usualKills = 6
)

// world is what the daemon has answered that there is: the value of everything by its name.
type world map[string]string

// change is a request, and what it makes of the world if it is carried out.
type change struct {
	request func(context.Context, *client.Client) error
	makes   func(world)
}

// TestRandomKills kills the daemon by SIGKILL at random moments while a client changes interfaces, routes and captures.
// After each restart there is what was answered, and the one change that was not answered, completely or not at all.
func TestRandomKills(t *testing.T) {
	kills := usualKills
	if text := os.Getenv(killsEnv); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		kills = n
	}
	_, n := newNetwork(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout+time.Duration(kills)*10*time.Second)
	defer cancel()
	dir := n.Path("state")
	require.NoError(t, os.Mkdir(dir, 0o700))
	d := startDaemon(ctx, t, n.Hypervisors[0], topology.DaemonConfig{Extra: "state: " + dir + "\n"})
	k := killer{t: t, ctx: ctx, net: n, daemon: d, answered: world{}}
	answers, unanswered := 0, 0
	var slowest time.Duration
	for range kills {
		count, pending := k.changeUntilKilled()
		answers += count
		killed := time.Now()
		require.NoError(t, d.Restart(ctx))
		slowest = max(slowest, time.Since(killed))
		if pending != nil {
			unanswered++
		}
		k.compare(pending)
	}
	require.Positive(t, answers)
	report.Printf(t, "the daemon killed %d times under changes: all %d answered changes were there, %d unanswered ones "+
		"completely or not at all; it answered %v after a kill at the latest", kills, answers, unanswered,
		slowest.Round(time.Millisecond))
}

// killer changes and kills a daemon.
type killer struct {
	t        *testing.T
	ctx      context.Context
	net      *topology.Network
	daemon   *topology.Daemon
	answered world
}

// changeUntilKilled makes changes until the daemon is killed, at a random moment. It returns how many were answered,
// and the one that was not.
func (k *killer) changeUntilKilled() (answers int, pending *change) {
	k.t.Helper()
	c, err := client.Dial(k.ctx, k.daemon.Socket)
	require.NoError(k.t, err)
	defer func() { _ = c.Close() }()
	killed := make(chan error, 1)
	time.AfterFunc(time.Duration(rand.IntN(400))*time.Millisecond, func() {
		_, err := k.daemon.Process.Stop(k.ctx, syscall.SIGKILL)
		killed <- err
	})
	defer func() { require.NoError(k.t, <-killed) }()
	for {
		next := k.random()
		err := next.request(k.ctx, c)
		var refused *client.Error
		switch {
		case err == nil:
			next.makes(k.answered)
			answers++
		case !errors.As(err, &refused):
			return answers, &next
		}
	}
}

// random is a change of one of three interfaces, of one of eight routes, or of the capture of an interface.
func (k *killer) random() change {
	guest := k.net.Guests()[rand.IntN(3)]
	add := rand.IntN(3) > 0
	capture := "capture " + guest.ID
	switch what := rand.IntN(4); {
	case what == 0 && add:
		return interfaceCreation(guest)
	case what == 0:
		return change{
			func(ctx context.Context, c *client.Client) error {
				return c.Call(ctx, api.MethodInterfaceDelete, api.InterfaceID{ID: guest.ID}, nil)
			},
			func(w world) { delete(w, "interface "+guest.ID); delete(w, capture) },
		}
	case what == 1 && add:
		return change{
			func(ctx context.Context, c *client.Client) error {
				return c.Call(ctx, api.MethodCaptureStart, api.CaptureStartParams{
					Name: guest.ID, SinkNodeIP: k.net.SinkIP.String(), UDPSrcPort: 3000, UDPDstPort: 3010,
					Interfaces: []api.CaptureSelector{{VF: guest.ID}},
				}, nil)
			},
			func(w world) { w[capture] = k.net.SinkIP.String() },
		}
	case what == 1:
		return change{
			func(ctx context.Context, c *client.Client) error {
				return c.Call(ctx, api.MethodCaptureStop, api.CaptureStopParams{Name: guest.ID}, nil)
			},
			func(w world) { delete(w, capture) },
		}
	}
	return routeChange(fmt.Sprintf("10.9.%d.0/24", rand.IntN(8)), fmt.Sprintf("fc00:7::%x", 1+rand.IntN(1000)), add)
}

func interfaceCreation(guest *topology.Guest) change {
	vni := uint32(100 + rand.IntN(100))
	return change{
		func(ctx context.Context, c *client.Client) error {
			return c.Call(ctx, api.MethodInterfaceCreate, api.InterfaceCreateParams{
				ID: guest.ID, Device: guest.Device, VNI: vni, IPv4: guest.IPv4.String(),
			}, nil)
		},
		func(w world) { w["interface "+guest.ID] = fmt.Sprint(vni) },
	}
}

func routeChange(prefix, hop string, add bool) change {
	if add {
		return change{
			func(ctx context.Context, c *client.Client) error {
				return c.Call(ctx, api.MethodRouteAdd, api.Route{VNI: 100, Prefix: prefix, NextHopVNI: 100, NextHopIP: hop}, nil)
			},
			func(w world) { w["route "+prefix] = hop },
		}
	}
	return change{
		func(ctx context.Context, c *client.Client) error {
			return c.Call(ctx, api.MethodRouteDelete, api.RouteDeleteParams{VNI: 100, Prefix: prefix}, nil)
		},
		func(w world) { delete(w, "route "+prefix) },
	}
}

// compare waits until the daemon has what it has answered, with or without the pending change, and no capture waits to
// be restored: captures go on only once the router is known.
func (k *killer) compare(pending *change) {
	k.t.Helper()
	possible := []world{k.answered}
	if pending != nil {
		with := maps.Clone(k.answered)
		pending.makes(with)
		possible = append(possible, with)
	}
	ctx, cancel := context.WithTimeout(k.ctx, stateTimeout)
	defer cancel()
	require.NoError(k.t, topology.Until(ctx, func() error {
		found, err := k.found()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(possible, func(w world) bool { return maps.Equal(w, found) })
		if i < 0 {
			return fmt.Errorf("there is %v, not one of %v", found, possible)
		}
		k.answered = possible[i]
		return nil
	}))
}

// found is what there is.
func (k *killer) found() (world, error) {
	var interfaces api.InterfaceListResult
	var routes api.RouteListResult
	var captures api.CaptureStatusResult
	err := errors.Join(
		client.CallAny(k.ctx, k.daemon.Socket, api.MethodInterfaceList, nil, &interfaces),
		client.CallAny(k.ctx, k.daemon.Socket, api.MethodRouteList, nil, &routes),
		client.CallAny(k.ctx, k.daemon.Socket, api.MethodCaptureStatus, nil, &captures),
	)
	if len(captures.Waiting) > 0 {
		return nil, fmt.Errorf("captures wait: %v", captures.Waiting)
	}
	w := world{}
	for _, i := range interfaces.Interfaces {
		w["interface "+i.ID] = fmt.Sprint(i.VNI)
	}
	for _, r := range routes.Routes {
		w["route "+r.Prefix] = r.NextHopIP
	}
	for _, s := range captures.Sessions {
		w["capture "+s.Name] = s.SinkNodeIP
	}
	return w, err
}
