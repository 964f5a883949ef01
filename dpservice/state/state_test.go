// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

// childFolder names the environment variable with the folder of the store, for a child process of TestKill.
const childFolder = "DPSERVICE_STATE_TEST"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		changeForever(dir, os.Args[len(os.Args)-1])
	}
	os.Exit(m.Run())
}

func open1(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	require.NoError(t, err)
	return s
}

func vm(n int) Interface {
	return Interface{
		ID: fmt.Sprintf(
			"vm-%03d",
			n,
		), Device: fmt.Sprintf("vf%d", n), VNI: 100, Hostname: "guest", PXEServer: "10.0.0.9", PXEFile: "x",
		IPv4: netip.MustParseAddr("10.0.0.1"), UnderlayIP: netip.MustParseAddr("fc00:1::1:1"),
	}
}

var route = Route{
	VNI:        100,
	Prefix:     netip.MustParsePrefix("10.1.0.0/16"),
	NextHopVNI: 100,
	NextHopIP:  netip.MustParseAddr("fc00:2::1"),
}

var lab = Capture{
	Name: "lab", Sink: netip.MustParseAddr("fc00:99::1"), UDPSrcPort: 3000, UDPDstPort: 3010, Encap: "udp",
	Direction: "rx",
	Duration:  time.Hour, Targets: []Target{{VF: "vm-1"}, {PF: 1}}, StartedAt: time.Unix(1, 2).UTC(),
	Seen:    time.Unix(3, 0).UTC(),
	Counted: Counts{Count: Count{5, 500}, Interfaces: map[string]Count{"vm-1/rx": {5, 500}}},
	Gaps:    []Gap{{time.Unix(1, 0).UTC(), time.Unix(2, 0).UTC()}}, Waiting: true,
}

func TestKeeps(t *testing.T) {
	dir := t.TempDir()
	s := open1(t, dir)
	for _, n := range []int{2, 1, 3} {
		require.NoError(t, s.Interfaces.Put(vm(n).ID, vm(n)))
	}
	changed := vm(2)
	changed.VNI = 200
	require.NoError(t, s.Interfaces.Put(changed.ID, changed))
	require.NoError(t, s.Routes.Put(RouteKey(route.VNI, route.Prefix), route))
	require.NoError(t, s.Captures.Put(lab.Name, lab))
	found, err := s.Interfaces.Delete("vm-003")
	require.NoError(t, err)
	assert.True(t, found)
	found, err = s.Interfaces.Delete("vm-003")
	require.NoError(t, err)
	assert.False(t, found)
	require.NoError(t, s.Close())

	s = open1(t, dir)
	interfaces, err := s.Interfaces.All()
	require.NoError(t, err)
	assert.Equal(t, []Interface{vm(1), changed}, interfaces)
	routes, err := s.Routes.All()
	require.NoError(t, err)
	assert.Equal(t, []Route{route}, routes)
	captures, err := s.Captures.All()
	require.NoError(t, err)
	assert.Equal(t, []Capture{lab}, captures)
	_, err = Open(dir)
	assert.ErrorIs(t, err, ErrInUse)
	require.NoError(t, s.Close())
	require.Error(t, s.Interfaces.Put("vm-001", vm(1)), "it is closed")
	info, err := os.Stat(filepath.Join(dir, fileName))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(fileMode), info.Mode())
}

// Open refuses a damaged file, whatever is wrong with it, says what to do, and leaves the file unchanged.
func TestRefuses(t *testing.T) {
	edit := func(change func(tx *bbolt.Tx) error) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			db, err := bbolt.Open(path, fileMode, nil)
			require.NoError(t, err)
			require.NoError(t, db.Update(change))
			require.NoError(t, db.Close())
		}
	}
	rewrite := func(change func(text []byte) []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, change(text), fileMode))
		}
	}
	tests := map[string]struct {
		damage func(t *testing.T, path string)
		want   error
	}{
		"newer":     {edit(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("2")) }), ErrNewer},
		"no format": {edit(func(tx *bbolt.Tx) error { return tx.DeleteBucket(metaBucket) }), ErrDamaged},
		"no table":  {edit(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("routes")) }), ErrDamaged},
		"no record": {edit(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("routes")).Put([]byte("x"), []byte("{"))
		}), ErrDamaged},
		"empty":      {rewrite(func([]byte) []byte { return nil }), ErrDamaged},
		"other file": {rewrite(func([]byte) []byte { return bytes.Repeat([]byte("x"), 1<<16) }), ErrDamaged},
		"half":       {rewrite(func(text []byte) []byte { return text[:len(text)/2] }), ErrDamaged},
		"two pages":  {rewrite(func(text []byte) []byte { return text[:2*os.Getpagesize()] }), ErrDamaged},
		"zeroed":     {rewrite(func(text []byte) []byte { clear(text[2*os.Getpagesize():]); return text }), ErrDamaged},
		"garbled": {rewrite(func(text []byte) []byte {
			for i := 2 * os.Getpagesize(); i < len(text); i++ {
				text[i] ^= 0x55
			}
			return text
		}), ErrDamaged},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, fileName)
			s := open1(t, dir)
			for n := range 100 {
				require.NoError(t, s.Interfaces.Put(vm(n).ID, vm(n)))
			}
			require.NoError(t, s.Close())
			tt.damage(t, path)
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			_, err = Open(dir)
			require.ErrorIs(t, err, tt.want)
			assert.ErrorContains(t, err, "move it away to start without what it holds")
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(before, after), "it is as it was")
		})
	}
}

func TestNoFolder(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "missing"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// A process that is killed while it creates a store leaves a temporary file, which the next start replaces.
func TestUnfinished(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, fileName+".new"), []byte("half of a store"), fileMode))
	require.NoError(t, open1(t, dir).Close())
}

// changeForever puts and deletes interfaces at random, and prints each change to stdout once it is stored.
func changeForever(dir, seed string) {
	n, _ := strconv.ParseUint(seed, 10, 64)
	random := rand.New(rand.NewPCG(n, 0))
	s, err := Open(dir)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for {
		i := vm(random.IntN(8))
		i.VNI = 1 + random.Uint32N(1000)
		put := random.IntN(3) > 0
		fmt.Println("begin", i.ID, i.VNI, put)
		if put {
			err = s.Interfaces.Put(i.ID, i)
		} else {
			_, err = s.Interfaces.Delete(i.ID)
		}
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("end", i.ID, i.VNI, put)
	}
}

// TestKill kills a process that changes the store, 200 times at random moments. The store then has all changes that the
// process has reported, and the one unreported change completely or not at all.
func TestKill(t *testing.T) {
	const kills = 200
	dir := t.TempDir()
	want := map[string]uint32{}
	for round := range kills {
		cmd := exec.Command(os.Args[0], strconv.Itoa(round))
		cmd.Env = append(os.Environ(), childFolder+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		time.AfterFunc(time.Duration(rand.IntN(30_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		last := follow(t, out, want)
		require.Error(t, cmd.Wait(), "it was killed")
		got := kept(t, dir)
		if last != "" {
			if vni, ok := got[last]; ok {
				want[last] = vni
			} else {
				delete(want, last)
			}
		}
		require.Equal(t, want, got, "round %d", round)
	}
}

// follow reads the changes that a child reports, and returns the id whose change was not reported.
func follow(t *testing.T, out io.Reader, want map[string]uint32) (unanswered string) {
	t.Helper()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var word, id string
		var vni uint32
		var put bool
		line := lines.Text()
		require.False(t, strings.HasPrefix(line, "error"), line)
		if n, _ := fmt.Sscan(line, &word, &id, &vni, &put); n < 4 {
			continue // it was killed in the middle of the line
		}
		switch {
		case word == "begin":
			unanswered = id
			continue
		case put:
			want[id] = vni
		default:
			delete(want, id)
		}
		unanswered = ""
	}
	return unanswered
}

func kept(t *testing.T, dir string) map[string]uint32 {
	t.Helper()
	s := open1(t, dir)
	all, err := s.Interfaces.All()
	require.NoError(t, err)
	require.NoError(t, s.Close())
	got := map[string]uint32{}
	for _, i := range all {
		got[i.ID] = i.VNI
	}
	return got
}
