// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/pcapng"
)

// packet is a packet as a test knows it.
type packet struct {
	of   string
	at   int64
	data uint64
}

func (p packet) bytes() []byte { return binary.BigEndian.AppendUint64(nil, p.data) }

// write writes a file of packets of some interfaces.
func write(t *testing.T, packets []packet) string {
	t.Helper()
	var b bytes.Buffer
	w := pcapng.NewWriter(&b, pcapng.Section{})
	numbers := map[string]int{}
	for _, p := range packets {
		number, ok := numbers[p.of]
		if !ok {
			number = w.AddInterface(pcapng.Interface{Name: p.of})
			numbers[p.of] = number
		}
		require.NoError(t, w.Packet(number, p.at, p.bytes(), 100))
	}
	require.NoError(t, w.Flush())
	file := filepath.Join(t.TempDir(), "a.pcapng")
	require.NoError(t, os.WriteFile(file, b.Bytes(), 0o600))
	return file
}

func read(t *testing.T, from io.Reader) (packets []packet) {
	t.Helper()
	r, err := pcapgo.NewNgReader(from, pcapgo.DefaultNgReaderOptions)
	require.NoError(t, err)
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return packets
		}
		require.NoError(t, err)
		of, err := r.Interface(info.InterfaceIndex)
		require.NoError(t, err)
		assert.Equal(t, 100, info.Length)
		packets = append(packets, packet{of.Name, info.Timestamp.UnixNano(), binary.BigEndian.Uint64(data)})
	}
}

// Every packet is there once, with its interface, and in order.
func TestMergesByTime(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		var all []packet
		var files []string
		for range random.IntN(6) {
			var some []packet
			at := int64(1767225600e9) + random.Int64N(1000)
			for range random.IntN(200) {
				at += random.Int64N(3) * 1001
				some = append(some, packet{fmt.Sprintf("hv%d/vm", random.IntN(3)), at, random.Uint64()})
			}
			files = append(files, write(t, some))
			all = append(all, some...)
		}
		slices.SortStableFunc(all, func(a, b packet) int { return int(a.at - b.at) })
		var b bytes.Buffer
		result, err := Files(&b, "test", files)
		require.NoError(t, err)
		assert.Equal(t, len(all), result.Packets)
		assert.LessOrEqual(t, result.Interfaces, 3)
		assert.Empty(t, result.Cut)
		if len(all) > 0 { // pcapgo reads no file without an interface
			assert.Equal(t, all, read(t, &b))
		}
	}
}

// A file that a crash has cut off gives what is whole in it.
func TestTakesWhatIsWhole(t *testing.T) {
	whole := []packet{{"a", 1, 1}, {"a", 2, 2}}
	file := write(t, whole)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for cut := 1; cut < 20; cut++ {
		require.NoError(t, os.WriteFile(file, text[:len(text)-cut], 0o600))
		var b bytes.Buffer
		result, err := Files(&b, "", []string{file})
		require.NoError(t, err, cut)
		assert.Equal(t, []string{file}, result.Cut)
		assert.Equal(t, whole[:1], read(t, &b))
	}
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Files(io.Discard, "", []string{file})
	assert.NoError(t, err, "an empty file is one that was just begun")
}

// A file does no harm whatever the block of an interface says of its length.
func TestDamagedInterfaces(t *testing.T) {
	file := write(t, []packet{{"a", 1, 1}})
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	lengthAt := binary.LittleEndian.Uint32(text[4:]) + 4 // behind the section's header
	for length := range binary.LittleEndian.Uint32(text[lengthAt:]) {
		binary.LittleEndian.PutUint32(text[lengthAt:], length)
		require.NoError(t, os.WriteFile(file, text, 0o600))
		assert.NotPanics(t, func() {
			result, _ := Files(io.Discard, "", []string{file})
			assert.LessOrEqual(t, result.Packets, 1, length)
		}, length)
	}
}

// What came before a sink knew whose it was is of its sender all the same; where a label was of two, nobody knows.
func TestNamesThatBecameKnown(t *testing.T) {
	sender := func(name, label string) pcapng.Interface {
		i := pcapng.Interface{Name: name, Description: "label " + label + " of node fc00::1"}
		if name != "label-"+label {
			i.Comment = "node hv1, interface " + name
		}
		return i
	}
	files := [][]pcapng.Interface{
		{sender("label-7", "7"), sender("label-8", "8"), sender("label-9", "9"), sender("vm-7", "7")},
		{sender("label-7", "7"), sender("vm-8", "8")},
		{sender("vm-81", "8")},
	}
	var names []string
	at := int64(0)
	for _, interfaces := range files {
		var b bytes.Buffer
		w := pcapng.NewWriter(&b, pcapng.Section{})
		for _, i := range interfaces {
			at++
			require.NoError(t, w.Packet(w.AddInterface(i), at, []byte(i.Description), 100))
		}
		require.NoError(t, w.Flush())
		names = append(names, filepath.Join(t.TempDir(), "a.pcapng"))
		require.NoError(t, os.WriteFile(names[len(names)-1], b.Bytes(), 0o600))
	}
	var out bytes.Buffer
	result, err := Files(&out, "", names)
	require.NoError(t, err)
	assert.Equal(t, 5, result.Interfaces)
	var got []string
	for _, p := range read(t, &out) {
		got = append(got, p.of)
	}
	assert.Equal(t, []string{"vm-7", "label-8", "label-9", "vm-7", "vm-7", "vm-8", "vm-81"}, got)
}
