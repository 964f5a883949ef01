// SPDX-License-Identifier: Apache-2.0

package pcapng_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/capture/pcapng"
)

// Another implementation reads back what the writer has written, for packets of any length.
func TestWriterIsRead(t *testing.T) {
	var file bytes.Buffer
	w := pcapng.NewWriter(&file, pcapng.Section{OS: "linux", Hardware: "amd64", Application: "test", Comment: "a session"})
	first := w.AddInterface(pcapng.Interface{Name: "vm-1", Description: "label 7", Comment: "captured"})
	second := w.AddInterface(pcapng.Interface{Name: "pf0"})
	at := time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)
	for n := range 10 {
		require.NoError(t, w.Packet(second, at.UnixNano()+int64(n), bytes.Repeat([]byte{byte(n)}, n), n+1))
	}
	w.Statistics(first, pcapng.Statistics{Start: at, End: at.Add(time.Second), Received: 3, Dropped: 2})
	require.NoError(t, w.Flush())
	assert.EqualValues(t, file.Len(), w.Size())

	r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{})
	require.NoError(t, err)
	assert.Equal(t, pcapgo.NgSectionInfo{OS: "linux", Hardware: "amd64", Application: "test", Comment: "a session"},
		r.SectionInfo())
	for n := range 10 {
		data, info, err := r.ReadPacketData()
		require.NoError(t, err)
		assert.Len(t, data, n)
		assert.Equal(t, n+1, info.Length)
		assert.Equal(t, second, info.InterfaceIndex)
		assert.True(t, at.Add(time.Duration(n)).Equal(info.Timestamp), info.Timestamp)
	}
	_, _, err = r.ReadPacketData()
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, 2, r.NInterfaces())
	i, err := r.Interface(first)
	require.NoError(t, err)
	assert.Equal(t, "vm-1", i.Name)
	assert.Equal(t, "label 7", i.Description)
	assert.Equal(t, "captured", i.Comment)
	assert.Equal(t, layers.LinkTypeEthernet, i.LinkType)
	assert.EqualValues(t, 3, i.Statistics.PacketsReceived)
}

func TestWriterRefuses(t *testing.T) {
	w := pcapng.NewWriter(io.Discard, pcapng.Section{})
	require.Error(t, w.Packet(0, 0, nil, 0), "no interface yet")
	number := w.AddInterface(pcapng.Interface{})
	require.Error(t, w.Packet(number, 0, []byte{1, 2}, 1), "more data than the packet had")
	require.Error(t, w.Packet(number, 0, make([]byte, pcapng.MaxPacket+1), pcapng.MaxPacket+1))
}

var errFull = errors.New("disk full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// The writer keeps returning its error, and further packets do not use memory.
func TestWriterFails(t *testing.T) {
	w := pcapng.NewWriter(full{}, pcapng.Section{})
	number := w.AddInterface(pcapng.Interface{})
	data := make([]byte, pcapng.MaxPacket)
	var err error
	for range 100 {
		err = w.Packet(number, 0, data, len(data))
	}
	require.ErrorIs(t, err, errFull)
	require.ErrorIs(t, w.Flush(), errFull)
}

// A text of any length leaves the file readable.
func FuzzText(f *testing.F) {
	f.Add("vm-1", "", "comment")
	f.Add(string(make([]byte, 70000)), "a", "\xff")
	f.Fuzz(func(t *testing.T, name, description, comment string) {
		var file bytes.Buffer
		w := pcapng.NewWriter(&file, pcapng.Section{Comment: comment})
		number := w.AddInterface(pcapng.Interface{Name: name, Description: description, Comment: comment})
		require.NoError(t, w.Packet(number, 1, []byte(name)[:min(len(name), pcapng.MaxPacket)], len(name)))
		require.NoError(t, w.Flush())
		r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{})
		require.NoError(t, err)
		data, _, err := r.ReadPacketData()
		require.NoError(t, err)
		assert.Equal(t, name[:min(len(name), pcapng.MaxPacket)], string(data))
	})
}

// Wireshark's capinfos reads as many packets as were written, whatever the packets and counters are.
func FuzzCapinfos(f *testing.F) {
	f.Add("vm-1", int64(1_700_000_000_123_456_789), []byte("\x03abc\x00\x05hello"), uint64(3), uint16(7))
	f.Add("\x00\xff", int64(-1), []byte("\xff\x01"), ^uint64(0), uint16(0xffff))
	f.Fuzz(func(t *testing.T, name string, at int64, packets []byte, counter uint64, cut uint16) {
		file := filepath.Join(t.TempDir(), "test.pcapng")
		out, err := os.Create(file)
		require.NoError(t, err)
		defer out.Close()
		w := pcapng.NewWriter(out, pcapng.Section{Comment: name})
		numbers := []int{w.AddInterface(pcapng.Interface{Name: name}), w.AddInterface(pcapng.Interface{Description: name})}
		written := 0
		for rest := packets; len(rest) > 0; written++ { // each packet follows its length
			length := min(int(rest[0]), len(rest)-1)
			require.NoError(t, w.Packet(numbers[written%2], at, rest[1:1+length], length+int(cut)))
			rest = rest[1+length:]
		}
		w.Statistics(numbers[0], pcapng.Statistics{Start: time.Unix(0, at), End: time.Unix(0, at), Received: counter,
			Dropped: counter})
		require.NoError(t, w.Flush())
		info, err := exec.CommandContext(t.Context(), "capinfos", "-M", "-c", "-I", file).CombinedOutput()
		require.NoError(t, err, string(info))
		assert.Regexp(t, fmt.Sprintf(`Number of packets: +%d\n`, written), string(info))
		assert.Regexp(t, `Number of interfaces in file: 2\n`, string(info))
	})
}

// tshark shows a packet's comment, whatever its length, and the packets behind it.
func TestCommentedPackets(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "commented.pcapng")
	file, err := os.Create(path)
	require.NoError(t, err)
	w := pcapng.NewWriter(file, pcapng.Section{})
	number := w.AddInterface(pcapng.Interface{Name: "vm-1"})
	want := ""
	for n := range 9 {
		comment := "because of " + strings.Repeat("x", n)
		require.NoError(t, w.CommentedPacket(number, int64(n), bytes.Repeat([]byte{1}, 60+n), 100, comment))
		require.NoError(t, w.Packet(number, int64(n), bytes.Repeat([]byte{1}, 60), 60))
		want += fmt.Sprintf("100\t%s\n60\t\n", comment)
	}
	require.Error(t, w.CommentedPacket(number+1, 0, nil, 0, "no such interface"))
	require.NoError(t, w.Flush())
	require.NoError(t, file.Close())
	out, err := exec.Command(tshark, "-r", path, "-T", "fields", "-e", "frame.len", "-e", "frame.comment").Output()
	require.NoError(t, err)
	require.Equal(t, want, string(out))
}
