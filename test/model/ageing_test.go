// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rteflow"
	"dpservice/test/report"
)

// A rule ages when it has seen no packet for its timeout, and is reported until it is destroyed; one that sees packets
// does not. The reference says which rule a packet hits.
func TestAgedFlowsAgainstModel(t *testing.T) {
	nic, id := nics[0], nics[0].ethdevs().id
	const rules, keepAlive, quiet = 120, 100 * time.Millisecond, 1
	require.NoError(t, nic.reset(nil))
	ref := Reference{Ports: slices.Clone(thePorts), Shared: map[uint32]*Shared{}}
	r := rand.New(rand.NewPCG(7, 7))
	handles, silent := map[uint64]rteflow.Handle{}, map[uint16][]uint64{}
	var busy []shot
	for context := uint64(1); context <= rules; context++ {
		port := thePorts[r.IntN(len(thePorts))]
		lives := r.IntN(2) == 0
		timeout := uint32(quiet)
		if lives {
			timeout = 5 // far longer than the time between packets, on a slow machine too
		}
		rule := ageing(port, uint16(context), timeout, context)
		h, err := rteflow.Create(id(port.ID), rule)
		require.NoError(t, err)
		handles[context] = h
		flow := ref.Create(port.ID, rule)
		s := shot{port: port.ID, frame: datagramTo(uint16(context))}
		require.Empty(t, ref.Receive(s.port, s.frame))
		require.Equal(t, uint64(1), flow.Counters.Packets, "the reference has the rule take its packet")
		if lives {
			busy = append(busy, s)
		} else {
			silent[port.ID] = append(silent[port.ID], context)
		}
	}
	var told map[uint16][]uint64
	begin := time.Now()
	for len(told) == 0 || !equalSets(told, silent) {
		require.Less(t, time.Since(begin), 20*time.Second, "aged: %v, want %v", told, silent)
		_, err := nic.exchange(busy, 0, 0)
		require.NoError(t, err)
		told = allAged(t, nic)
		time.Sleep(keepAlive)
	}
	assert.Greater(t, time.Since(begin), time.Second/2, "not before their time")
	for port, contexts := range silent {
		require.NoError(t, rteflow.Destroy(id(port), handles[contexts[0]]))
		silent[port] = contexts[1:]
	}
	assert.True(t, equalSets(allAged(t, nic), silent), "what is destroyed is not told of any more")
	require.NoError(t, nic.reset(nil))
	report.Printf(t, "model: %d rules with ages, %d of them kept alive", rules, len(busy))
}

// ageing is a rule for datagrams to a UDP port.
func ageing(port Port, to uint16, timeout uint32, context uint64) rteflow.Rule {
	return rteflow.Rule{
		Attr:    rteflow.Attr{Ingress: !port.Switch, Transfer: port.Switch},
		Pattern: []rteflow.Item{rteflow.Eth{}, rteflow.IPv4{}, rteflow.UDP{DstPort: rteflow.Is(to)}},
		Actions: []rteflow.Action{rteflow.Age{Timeout: timeout, Context: context}, rteflow.Count{}, rteflow.Drop{}},
	}
}

func datagramTo(port uint16) []byte {
	frame := make([]byte, 60)
	copy(frame[12:], []byte{0x08, 0x00, 0x45, 0, 0, 46, 8: 0, 11: protoUDP})
	binary.BigEndian.PutUint16(frame[36:], port)
	return frame
}

// allAged is what the ports tell of, by port.
func allAged(t *testing.T, n nic) map[uint16][]uint64 {
	t.Helper()
	told := map[uint16][]uint64{}
	var errs []error
	for _, p := range thePorts {
		contexts, err := rteflow.Aged(n.ethdevs().id(p.ID))
		errs = append(errs, err)
		if len(contexts) > 0 {
			told[p.ID] = contexts
		}
	}
	require.NoError(t, errors.Join(errs...))
	return told
}

func equalSets(a, b map[uint16][]uint64) bool {
	sorted := func(m map[uint16][]uint64) string {
		s := map[uint16][]uint64{}
		for port, contexts := range m {
			if len(contexts) > 0 {
				s[port] = slices.Sorted(slices.Values(contexts))
			}
		}
		return fmt.Sprint(s)
	}
	return sorted(a) == sorted(b)
}
