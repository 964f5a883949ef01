// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/dpservice/port"
	"dpservice/wire"
)

var (
	router0 = wire.MAC{2, 0, 0, 0, 0, 0xe0}
	router1 = wire.MAC{2, 0, 0, 0, 0, 0xe1}
)

// world has two PFs, whose ports are 3 and 4, and keeps the calls that it gets.
type world struct {
	mu       sync.Mutex
	links    map[uint16]bool
	used     []Uplink
	fail     error
	reported []string
}

func (w *world) PFs() []port.Port {
	w.mu.Lock()
	defer w.mu.Unlock()
	return []port.Port{
		{ID: 3, Name: "nic", Role: port.PF, MAC: []byte{2, 0, 0, 0, 0, 0xf0}, LinkUp: w.links[3]},
		{ID: 4, Name: "nic_pf1", Role: port.PF, Index: 1, MAC: []byte{2, 0, 0, 0, 0, 0xf1}, LinkUp: w.links[4]},
	}
}

func (w *world) use(u Uplink) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used = append(w.used, u)
	return w.fail
}

func (w *world) uses() []Uplink {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used
}

func (w *world) setFailure(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

func (w *world) setLink(port uint16, up bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links[port] = up
}

// usable are the numbers of the uplinks that were used last as such.
func (w *world) usable() string {
	last := map[int]bool{}
	for _, u := range w.uses() {
		last[u.Number] = u.Usable()
	}
	return fmt.Sprint(last)
}

// run runs a Manager in a world whose links are up, in a bubble whose time passes by itself.
func run(t *testing.T, router wire.MAC, do func(m *Manager, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{links: map[uint16]bool{3: true, 4: true}}
		m := New(Config{
			Ports: w, RouterMAC: router, Use: w.use, Log: slog.New(slog.DiscardHandler),
			LinkChanged: func(port uint16, up bool) { w.reported = append(w.reported, fmt.Sprint(port, up)) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		synctest.Wait()
		do(m, w)
		cancel()
		synctest.Wait()
		select {
		case <-done:
		default:
			t.Error("Run does not end with its context")
		}
	})
}

func TestUplinksBecomeUsable(t *testing.T) {
	run(t, wire.MAC{}, func(m *Manager, w *world) {
		assert.Equal(t, "map[0:false 1:false]", w.usable())
		m.Discovered(4, router1)
		synctest.Wait()
		assert.Equal(t, "map[0:false 1:true]", w.usable(), "at once")
		m.Discovered(3, router0)
		synctest.Wait()
		assert.Equal(t, "map[0:true 1:true]", w.usable())
		want := []Uplink{
			{Number: 0, Port: 3, Name: "nic", MAC: wire.MAC{2, 0, 0, 0, 0, 0xf0}, LinkUp: true, RouterMAC: router0,
				Source: Discovery},
			{Number: 1, Port: 4, Name: "nic_pf1", MAC: wire.MAC{2, 0, 0, 0, 0, 0xf1}, LinkUp: true, RouterMAC: router1,
				Source: Discovery},
		}
		assert.Equal(t, want, m.List())
		calls := len(w.uses())
		time.Sleep(10 * linkPeriod)
		assert.Len(t, w.uses(), calls, "what has not changed is not used again")
		m.Discovered(99, router0)
	})
}

// The state of a link is followed well within a second, both ways, and neighbour discovery hears of it first.
func TestLinksAreFollowed(t *testing.T) {
	run(t, router0, func(_ *Manager, w *world) {
		require.Equal(t, "map[0:true 1:true]", w.usable())
		for _, number := range []int{0, 1} {
			for _, up := range []bool{false, true} {
				w.setLink(uint16(3+number), up)
				time.Sleep(2 * linkPeriod)
				last := w.uses()[len(w.uses())-1]
				assert.Equal(t, number, last.Number)
				assert.Equal(t, up, last.Usable())
			}
		}
		assert.Equal(t, []string{"3 false", "3 true", "4 false", "4 true"}, w.reported)
	})
}

func TestConfigurationThenKernelThenDiscovery(t *testing.T) {
	kernel, found := wire.MAC{2, 1}, wire.MAC{2, 2}
	run(t, wire.MAC{}, func(m *Manager, _ *world) {
		m.Discovered(3, found)
		assert.True(t, m.FindsRouter(3))
		m.KernelRouter(3, true, wire.MAC{})
		assert.True(t, m.FindsRouter(3), "the kernel may get no answer")
		assert.Equal(t, found, m.List()[0].RouterMAC)
		m.KernelRouter(3, true, kernel)
		assert.False(t, m.FindsRouter(3))
		assert.True(t, m.FindsRouter(4))
		u := m.List()[0]
		assert.Equal(t, kernel, u.RouterMAC)
		assert.Equal(t, Kernel, u.Source)
		m.KernelRouter(3, true, wire.MAC{})
		assert.False(t, m.List()[0].Usable(), "the kernel has lost the router that it knew")
		m.KernelRouter(3, false, wire.MAC{})
		assert.Equal(t, found, m.List()[0].RouterMAC, "without a route the kernel knows no router")
		assert.False(t, m.FindsRouter(99))
	})
	run(t, router0, func(m *Manager, _ *world) {
		m.Discovered(3, found)
		m.KernelRouter(4, true, kernel)
		for _, u := range m.List() {
			assert.Equal(t, router0, u.RouterMAC)
			assert.Equal(t, Configuration, u.Source)
			assert.False(t, m.FindsRouter(u.Port))
		}
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	run(t, wire.MAC{}, func(m *Manager, w *world) {
		w.setFailure(errors.New("busy"))
		calls := len(w.uses())
		m.Discovered(3, router0)
		synctest.Wait()
		require.Len(t, w.uses(), calls+1)
		m.Discovered(3, router1)
		synctest.Wait()
		require.Len(t, w.uses(), calls+1, "not at once")
		w.setFailure(nil)
		time.Sleep(retryPeriod + linkPeriod)
		require.Len(t, w.uses(), calls+2)
		assert.Equal(t, router1, w.uses()[calls+1].RouterMAC, "what is true by then")
	})
}
