// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/wire"
)

// newRecorder returns a flight recorder of a folder, and what asks it for a dump.
func newRecorder(t *testing.T, m Memory, files int) (r *flightRecorder, dump func() Dumped) {
	t.Helper()
	dumps := make(chan Dump, 1)
	c := Config{Output: Output{Path: filepath.Join(t.TempDir(), "fault.pcapng"), Files: files}, Memory: m, Dumps: dumps}
	end := newWriteDeadlines(t.Context())
	t.Cleanup(end.close)
	r, err := openMemory(&c, 3010, func() uint64 { return 0 }, end)
	require.NoError(t, err)
	return r, func() (result Dumped) {
		dumps <- func(d Dumped) { result = d }
		require.NoError(t, r.tick(t.Context()))
		return result
	}
}

// numbered is a copy whose frame begins with a number.
func numbered(number uint32, at time.Time, length int) *datagram {
	data := make([]byte, max(length, 4))
	binary.BigEndian.PutUint32(data, number)
	return &datagram{at: at.UnixNano(), data: data, length: len(data) + 1,
		sender: Sender{Node: netip.MustParseAddr("fc00:1::1"), Label: wire.Label(1 + number%3)}}
}

// For any sizes and ages of copies: a dump has the newest ones, whole and in order, at most as many bytes as are
// allowed, at least half of these if there were as many, and none that is too old. The next one has what came since.
func TestFlightRecorderKeepsTheNewest(t *testing.T) {
	const bound = 4 * segmentLen
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 1))
		r, dump := newRecorder(t, Memory{Duration: time.Minute, Bytes: bound}, 0)
		next := uint32(0)
		for round := range 3 {
			first := next
			var sizes []int
			old := 0 // so many are too old
			count := 1 + random.IntN(4000)
			for i := range count {
				at := time.Now()
				if i < count/4 {
					at, old = at.Add(-2*time.Minute), old+1
				}
				d := numbered(next, at, random.IntN(9000))
				require.NoError(t, r.write(t.Context(), d))
				sizes = append(sizes, len(d.data))
				next++
			}
			result := dump()
			require.NoError(t, result.Err)
			packets, _ := read(t, result.File)
			require.Len(t, packets, int(result.Packets))
			bytes := 0
			for i, p := range packets {
				number := int(next) - len(packets) + i
				require.EqualValues(t, number, binary.BigEndian.Uint32([]byte(p.data)), "round %d", round)
				require.Len(t, p.data, sizes[number-int(first)])
				require.GreaterOrEqual(t, number-int(first), old)
				bytes += len(p.data)
			}
			assert.LessOrEqual(t, bytes, bound)
			if len(packets) < count-old {
				assert.Greater(t, bytes, bound/2, "there was room for more")
			}
		}
	}
}

func TestFlightRecorderForgetsByTime(t *testing.T) {
	r, dump := newRecorder(t, Memory{Duration: time.Minute}, 0)
	require.NoError(t, r.write(t.Context(), numbered(1, time.Now().Add(-2*time.Minute), 60)))
	require.NoError(t, r.tick(t.Context()))
	assert.Empty(t, r.segments, "the memory is given back")
	assert.Zero(t, dump().Packets)
}

func TestFlightRecorderKeepsSoManyFiles(t *testing.T) {
	r, dump := newRecorder(t, Memory{Bytes: 1 << 20}, 2)
	var files []string
	for i := range uint32(4) {
		require.NoError(t, r.write(t.Context(), numbered(i, time.Now(), 60)))
		d := dump()
		require.NoError(t, d.Err)
		require.EqualValues(t, 1, d.Packets)
		files = append(files, d.File)
	}
	assert.NoFileExists(t, files[0])
	assert.NoFileExists(t, files[1])
	assert.FileExists(t, files[2])
	assert.FileExists(t, files[3])
}

// What could not be written is kept for the next dump.
func TestFlightRecorderKeepsWhatItCannotWrite(t *testing.T) {
	r, dump := newRecorder(t, Memory{Bytes: 1 << 20}, 0)
	require.NoError(t, r.write(t.Context(), numbered(1, time.Now(), 60)))
	dir := filepath.Dir(r.files.config.Output.Path)
	require.NoError(t, os.Rename(dir, dir+"-gone"))
	assert.ErrorContains(t, dump().Err, "writing what is in memory: creating a capture file")
	require.NoError(t, os.Rename(dir+"-gone", dir))
	d := dump()
	require.NoError(t, d.Err)
	assert.EqualValues(t, 1, d.Packets)
}

func TestFlightRecorderNeedsFiles(t *testing.T) {
	for name, c := range map[string]Config{
		"stream":          {Output: Output{File: os.Stdout}, Memory: Memory{Bytes: 1 << 20}},
		"no folder":       {Output: Output{Path: filepath.Join(t.TempDir(), "none", "x.pcapng")}, Memory: Memory{Bytes: 1 << 20}},
		"too much memory": {Output: Output{Path: filepath.Join(t.TempDir(), "x.pcapng")}, Memory: Memory{Bytes: 1 << 50}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openMemory(&c, 3010, nil, nil)
			assert.Error(t, err)
		})
	}
}
