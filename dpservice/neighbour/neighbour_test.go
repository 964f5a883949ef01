// SPDX-License-Identifier: Apache-2.0

package neighbour

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"dpservice/wire"
)

// insideEnv says that the test binary is within a network namespace of its own, which ends with it.
const insideEnv = "NEIGHBOUR_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var (
	gateway = netip.MustParseAddr("fe80::ee")
	mac1    = wire.MAC{2, 0, 0, 0, 0, 1}
	mac2    = wire.MAC{2, 0, 0, 0, 0, 2}
)

// carrierTime is what the kernel may take until it acts upon the loss of a carrier, which it does once a second for
// most devices.
const carrierTime = 3 * time.Second

// routerLink is a link to a namespace in which a router is, and a Watcher of this end.
type routerLink struct {
	t      *testing.T
	dev    netlink.Link
	router *netlink.Handle
	end    netlink.Link

	mu   sync.Mutex
	seen []Router
}

var wires int

func newRouterLink(t *testing.T) *routerLink {
	t.Helper()
	w := &routerLink{t: t}
	ns := newNamespace(t)
	wires++
	near, far := fmt.Sprintf("near%d", wires), fmt.Sprintf("far%d", wires)
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: near}, PeerName: far, PeerNamespace: netlink.NsFd(ns),
	}))
	var err error
	w.dev, err = netlink.LinkByName(near)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, netlink.LinkDel(w.dev)) })
	w.router, err = netlink.NewHandleAt(ns)
	require.NoError(t, err)
	t.Cleanup(w.router.Close)
	w.end, err = w.router.LinkByName(far)
	require.NoError(t, err)
	w.setRouter(mac1)
	require.NoError(t, w.router.LinkSetUp(w.end))
	require.NoError(t, netlink.LinkSetUp(w.dev))
	require.NoError(t, w.router.AddrReplace(w.end, linkLocal(gateway)))
	require.NoError(t, netlink.AddrReplace(w.dev, linkLocal(netip.MustParseAddr("fe80::1"))))
	return w
}

// newNamespace returns a network namespace that lasts as long as the test.
func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	require.NoError(t, err)
	there, err := netns.New()
	require.NoError(t, err)
	require.NoError(t, netns.Set(here))
	require.NoError(t, here.Close())
	t.Cleanup(func() { require.NoError(t, there.Close()) })
	return there
}

func linkLocal(ip netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
}

func (w *routerLink) setRouter(mac wire.MAC) {
	w.t.Helper()
	require.NoError(w.t, w.router.LinkSetHardwareAddr(w.end, mac[:]))
}

// follow runs a Watcher until the test ends.
func (w *routerLink) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	watcher := New([]int{w.dev.Attrs().Index}, func(_ int, r Router) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, r)
	}, slog.New(slog.NewTextHandler(w.t.Output(), nil)))
	done := make(chan struct{})
	go func() { watcher.Run(ctx); close(done) }()
	w.t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(time.Second):
			w.t.Error("Run does not end with its context")
		}
	})
}

func (w *routerLink) now() Router {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		return Router{}
	}
	return w.seen[len(w.seen)-1]
}

// becomes waits until the router is this one.
func (w *routerLink) becomes(want Router, within time.Duration) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.now() == want }, within, 5*time.Millisecond, "%+v", want)
}

func (w *routerLink) route(prefix string, via netip.Addr, metric int) *netlink.Route {
	_, dst, err := net.ParseCIDR(prefix)
	require.NoError(w.t, err)
	return &netlink.Route{LinkIndex: w.dev.Attrs().Index, Dst: dst, Gw: via.AsSlice(), Priority: metric}
}

func (w *routerLink) addRoute(prefix string, via netip.Addr, metric int) {
	w.t.Helper()
	require.NoError(w.t, netlink.RouteAdd(w.route(prefix, via, metric)))
}

// The kernel resolves what nobody has asked it for, and what it learns is reported at once.
func TestTheKernelsRouterIsFollowed(t *testing.T) {
	w := newRouterLink(t)
	w.follow()
	time.Sleep(2 * routePeriod)
	assert.Empty(t, w.now(), "there is no route")
	w.addRoute("::/0", gateway, 0)
	w.becomes(Router{gateway, mac1}, 3*time.Second)

	w.setRouter(mac2)
	w.learn(mac2, unix.NUD_REACHABLE)
	w.becomes(Router{gateway, mac2}, time.Second)
	w.learn(mac1, unix.NUD_PERMANENT)
	w.becomes(Router{gateway, mac1}, time.Second)

	require.NoError(t, netlink.RouteDel(w.route("::/0", gateway, 0)))
	w.becomes(Router{}, time.Second)
}

// learn has the kernel take a MAC for the router's.
func (w *routerLink) learn(mac wire.MAC, state int) {
	w.t.Helper()
	require.NoError(w.t, netlink.NeighSet(&netlink.Neigh{
		LinkIndex: w.dev.Attrs().Index, IP: gateway.AsSlice(), HardwareAddr: mac[:], State: state,
	}))
}

// Whatever the kernel is made to believe: a router that answers where it was is there.
func TestAClaimIsNotFollowedWhileTheRouterAnswers(t *testing.T) {
	w := newRouterLink(t)
	w.addRoute("::/0", gateway, 0)
	w.follow()
	w.becomes(Router{gateway, mac1}, 3*time.Second)
	for range 10 {
		w.learn(mac2, unix.NUD_REACHABLE)
		time.Sleep(answerTime)
	}
	time.Sleep(2 * solicitations * answerTime)
	assert.Equal(t, Router{gateway, mac1}, w.now())
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.seen {
		assert.NotEqual(t, mac2, r.MAC)
	}
}

// An answer is an advertisement of the router's from its MAC; whatever else a frame is, it is none.
func TestIsAnswer(t *testing.T) {
	r := Router{gateway, mac1}
	answer := make([]byte, 78)
	copy(answer[6:], mac1[:])
	copy(answer[12:], []byte{0x86, 0xdd})
	answer[20], answer[21], answer[54] = 58, 255, 136
	to := gateway.As16()
	copy(answer[62:], to[:])
	assert.True(t, isAnswer(answer, r))
	for n := range answer {
		assert.False(t, isAnswer(answer[:n], r))
	}
	for _, at := range []int{6, 11, 12, 13, 20, 21, 54, 62, 77} {
		answer[at]++
		assert.False(t, isAnswer(answer, r), at)
		answer[at]--
	}
}

// A router that has got another MAC says nothing; the kernel has to be made to look.
func TestARouterThatChangesSilently(t *testing.T) {
	w := newRouterLink(t)
	w.addRoute("::/0", gateway, 0)
	w.follow()
	w.becomes(Router{gateway, mac1}, 3*time.Second)
	w.setRouter(mac2)
	w.becomes(Router{gateway, mac2}, probePeriod+10*time.Second)
}

// With the link the kernel forgets the router, and finds it when the link is back.
func TestLinkLoss(t *testing.T) {
	w := newRouterLink(t)
	require.NoError(t, os.WriteFile(fmt.Sprintf("/proc/sys/net/ipv6/conf/%s/keep_addr_on_down", w.dev.Attrs().Name),
		[]byte("1"), 0))
	w.addRoute("::/0", gateway, 0)
	w.follow()
	w.becomes(Router{gateway, mac1}, 3*time.Second)
	require.NoError(t, w.router.LinkSetDown(w.end))
	w.becomes(Router{NextHop: gateway}, carrierTime)
	require.NoError(t, w.router.LinkSetUp(w.end))
	require.NoError(t, w.router.AddrReplace(w.end, linkLocal(gateway)))
	w.becomes(Router{gateway, mac1}, 5*time.Second)
	require.NoError(t, netlink.LinkSetDown(w.dev))
	w.becomes(Router{}, time.Second)
}

func TestARouterThatDoesNotAnswer(t *testing.T) {
	w := newRouterLink(t)
	w.addRoute("::/0", netip.MustParseAddr("fe80::dead"), 0)
	w.follow()
	w.becomes(Router{NextHop: netip.MustParseAddr("fe80::dead")}, time.Second)
	require.NoError(t, w.router.AddrReplace(w.end, linkLocal(netip.MustParseAddr("fe80::dead"))))
	w.becomes(Router{netip.MustParseAddr("fe80::dead"), mac1}, 10*time.Second)
}

// The best route counts: the default one before others, then the lower metric.
func TestTheBestRoute(t *testing.T) {
	w := newRouterLink(t)
	hop := func(last byte) netip.Addr { return netip.AddrFrom16([16]byte{0xfe, 0x80, 15: last}) }
	w.follow()
	w.addRoute("fc00:9::/32", hop(9), 1)
	w.becomes(Router{NextHop: hop(9)}, time.Second)
	w.addRoute("fc00::/8", hop(8), 1024)
	w.becomes(Router{NextHop: hop(8)}, time.Second)
	w.addRoute("::/0", hop(7), 200)
	w.becomes(Router{NextHop: hop(7)}, time.Second)
	w.addRoute("::/0", hop(6), 100)
	w.becomes(Router{NextHop: hop(6)}, time.Second)
	require.NoError(t, netlink.RouteDel(w.route("::/0", hop(6), 100)))
	w.becomes(Router{NextHop: hop(7)}, time.Second)
}

// A default route over several interfaces leads out of each.
func TestMultipath(t *testing.T) {
	a, b := newRouterLink(t), newRouterLink(t)
	a.follow()
	b.follow()
	hop := func(w *routerLink) *netlink.NexthopInfo {
		return &netlink.NexthopInfo{LinkIndex: w.dev.Attrs().Index, Gw: gateway.AsSlice()}
	}
	_, all, err := net.ParseCIDR("::/0")
	require.NoError(t, err)
	require.NoError(t, netlink.RouteAdd(&netlink.Route{Dst: all, MultiPath: []*netlink.NexthopInfo{hop(a), hop(b)}}))
	a.becomes(Router{gateway, mac1}, 3*time.Second)
	b.becomes(Router{gateway, mac1}, 3*time.Second)
	require.NoError(t, a.router.LinkSetDown(a.end))
	a.becomes(Router{NextHop: gateway}, carrierTime)
	assert.Equal(t, Router{gateway, mac1}, b.now())
}

func TestNothingToWatch(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	New(nil, func(int, Router) { t.Error("told of a router") }, slog.New(slog.DiscardHandler)).Run(ctx)
}
