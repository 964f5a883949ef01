// SPDX-License-Identifier: Apache-2.0

package rteflow

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/wire"
)

// testpmdLine is what testpmd reads of a line at most.
const testpmdLine = 511

// testpmd runs commands on a port that has no rte_flow of its own and returns what it answered to each.
func testpmd(t *testing.T, commands []string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dpdk-testpmd", "--no-huge", "-m", "128", "--no-pci",
		"--file-prefix", fmt.Sprintf("rteflow-testpmd-%d", os.Getpid()),
		"-l", "0,1", "--vdev=net_null0", "--", "-i", "--total-num-mbufs=2048")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\nquit\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	answers := strings.Split(string(out), "testpmd> ")
	require.Len(t, answers, len(commands)+2, string(out)) // a greeting before, the answer to quit behind
	return answers[1 : len(commands)+1]
}

// Without rte_flow on its port testpmd parses a command and only then says that there is no such function.
func TestTestpmdUnderstandsTheCommands(t *testing.T) {
	var commands []string
	random := rand.New(rand.NewPCG(3, 4))
	for len(commands) < 400 {
		seed := make([]byte, 600)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		for _, line := range (&dice{seed}).rule().Commands(0) {
			if len(line) <= testpmdLine {
				commands = append(commands, line)
			}
		}
	}
	for i, answer := range testpmd(t, commands) {
		assert.NotContains(t, answer, "Bad arguments", commands[i])
		if strings.HasPrefix(commands[i], "flow") {
			assert.Contains(t, answer, "Function not implemented")
		}
	}
}

func TestTestpmdMakesTheSameHeaders(t *testing.T) {
	ipv4 := headerBytes([]Item{
		Eth{Is(wire.MAC{2, 1}), Is(wire.MAC{2, 2}), Is[uint16](wire.EtherTypeIPv4), nil},
		IPv4{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: Is[uint8](wire.ProtoUDP), TTL: Is[uint8](64),
			TOS: Is[uint8](4)},
		UDP{Is[uint16](1), Is[uint16](2)},
	})
	headers := [][]byte{captureHeader, labelledHeader, vxlanHeader, tunnelHeader, tunnelHeader[:14], ipv4,
		make([]byte, 14)}
	var rule Rule
	for _, header := range headers {
		rule.Actions = append(rule.Actions, RawEncap{Data: header})
	}
	commands := rule.Commands(0)[:len(headers)]
	for i := range headers {
		commands = append(commands, fmt.Sprintf("show raw_encap %d", i))
	}
	answers := testpmd(t, commands)[len(headers):]
	for i, header := range headers {
		assert.Equal(t, hex.EncodeToString(header), dumpedBytes(answers[i]), commands[i])
	}
}

// dumpedBytes collects the bytes of testpmd's dump, 16 in a line of the form "00000000: 02 00 ... | ....".
func dumpedBytes(dump string) string {
	var b strings.Builder
	for _, line := range regexp.MustCompile(`(?m)^[0-9A-F]{8}: ([0-9A-F ]+)\|`).FindAllStringSubmatch(dump, -1) {
		b.WriteString(strings.ReplaceAll(line[1], " ", ""))
	}
	return strings.ToLower(b.String())
}
