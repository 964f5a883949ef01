// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Copies of senders that may not send are not received, neither by a ring nor by a socket. Both the filter in the
// kernel and the check in this program reject them.
func TestOnlyFrom(t *testing.T) {
	many := make([]string, MaxFrom)
	for i := range many {
		many[i] = fmt.Sprintf("fc00::%x/128", i)
	}
	for _, tt := range []struct {
		from []string
		ok   bool
	}{
		{[]string{"::1/128"}, true},
		{[]string{"::/0"}, true},
		{[]string{"::/1"}, true},
		{[]string{"::/100"}, true},
		{[]string{"fc00:1::/64", "::1/128"}, true},
		{[]string{"::1/128", "fc00:1::1/128"}, true},
		{append(many[1:], "::1/128"), true},
		{[]string{"8000::/1"}, false},
		{[]string{"::2/128"}, false},
		{[]string{"::/128", "fc00:1::/33"}, false},
		{many, false},
	} {
		var from []netip.Prefix
		for _, text := range tt.from {
			from = append(from, netip.MustParsePrefix(text))
		}
		assert.Equal(t, tt.ok, (&receiver{config: Config{From: from}}).isAllowed(netip.IPv6Loopback()))
		for _, socket := range []bool{false, true} {
			r := start(t, Config{Socket: socket, From: from, Output: Output{Path: filepath.Join(t.TempDir(), "a")}})
			r.send([]byte("frame"))
			time.Sleep(20 * time.Millisecond)
			want := Counters{}
			got := r.stop()
			if tt.ok {
				want = Counters{Packets: 1, Bytes: 5}
			} else if got.Dropped > 0 { // a socket counts them as dropped
				want.Dropped = 1
			}
			assert.Equal(t, want, got, "from %v, socket %v", tt.from[:1], socket)
		}
	}
	_, err := Run(t.Context(), Config{From: make([]netip.Prefix, MaxFrom+1)})
	require.ErrorContains(t, err, "at most 64 networks")
}

// An address is local if the kernel would deliver packets for it.
func TestLocal(t *testing.T) {
	l, err := openLocal()
	require.NoError(t, err)
	defer l.close()
	lo, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	for text, want := range map[string]bool{"::1": true, "2001:db8::1": false, "ff02::1": false} {
		for range 2 { // the second answer comes from the cache
			assert.Equal(t, want, l.has(netip.MustParseAddr(text), lo.Index, 1), text)
		}
	}
	l.last = arrival{}
	l.answers[arrival{netip.IPv6Loopback(), lo.Index}] = answer{false, 1 + int64(localFor)}
	assert.False(t, l.has(netip.IPv6Loopback(), lo.Index, int64(localFor)))
	assert.True(t, l.has(netip.IPv6Loopback(), lo.Index, 1+int64(localFor)), "an answer counts for some time")
	for n := range 3 * maxLocal {
		l.has(netip.AddrFrom16([16]byte{0x20, 1, 14: byte(n >> 8), 15: byte(n)}), lo.Index, 1)
	}
	assert.LessOrEqual(t, len(l.answers), maxLocal)
}

// A buffer that is too large for the memory of the machine is rejected. The numbers are made up: nothing is allocated.
func TestBufferThatIsTooLarge(t *testing.T) {
	const gib = 1 << 30
	got, err := bufferWithin(gib, 4*gib)
	require.NoError(t, err)
	assert.Equal(t, gib, got)
	_, err = bufferWithin(64*gib, 22*gib)
	require.EqualError(t, err,
		"a buffer of 65536 MiB is more than a quarter of the 22528 MiB of memory that are available: at most 5632 MiB")
	got, err = bufferWithin(0, 22*gib)
	require.NoError(t, err)
	assert.Equal(t, DefaultBuffer, got)
	got, err = bufferWithin(0, 100<<20)
	require.NoError(t, err)
	assert.Equal(t, 25<<20, got, "the default is less where there is little")

	_, err = Run(t.Context(), Config{Buffer: math.MaxInt, Output: Output{Path: "/dev/null"}})
	require.ErrorContains(t, err, "more than a quarter")
}

func TestAvailableMemory(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		name = filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	available := func() int {
		n, err := availableMemory(root)
		require.NoError(t, err)
		return n
	}
	_, err := availableMemory(root)
	require.ErrorIs(t, err, os.ErrNotExist)
	write("proc/meminfo", "MemTotal:       3000 kB\nMemAvailable:   2000 kB\n")
	assert.Equal(t, 2000<<10, available())
	write("proc/self/cgroup", "0::/a/b\n")
	write("sys/fs/cgroup/a/b/memory.max", "max\n")
	assert.Equal(t, 2000<<10, available())
	write("sys/fs/cgroup/a/memory.max", "900000\n")
	write("sys/fs/cgroup/a/memory.current", "300000\n")
	assert.Equal(t, 600_000, available(), "a group above this one's has a limit")
	write("sys/fs/cgroup/a/memory.stat", "anon 5\nactive_file 40000\ninactive_file 60000\n")
	assert.Equal(t, 700_000, available())
	write("sys/fs/cgroup/memory.max", "100\n")
	write("sys/fs/cgroup/memory.current", "200\n")
	assert.Zero(t, available(), "in a container the group is the root")
}
