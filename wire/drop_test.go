// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Labels say what was put into them, and are a copy's as others are.
func TestDropLabel(t *testing.T) {
	seen := map[Label]bool{}
	for reason := range DropReason(maxDropReason + 1) {
		for _, label := range []Label{1, 7, MaxDropLabel} {
			l := DropLabel(label, reason)
			require.False(t, seen[l])
			seen[l] = true
			require.LessOrEqual(t, l, Label(MaxLabel))
			gotLabel, gotReason, is := l.Dropped()
			require.True(t, is)
			require.Equal(t, label, gotLabel)
			require.Equal(t, reason, gotReason)
			require.Equal(t, DropLabel(label, 0), l.WithoutReason())
		}
	}
	for _, l := range []Label{0, 1, 1 << 16, LabelTX | 1, LabelTX | LabelDrop | 1, MaxLabel + 1 | LabelDrop} {
		_, _, is := l.Dropped()
		assert.False(t, is, "%#x", l)
		assert.Equal(t, l, l.WithoutReason())
	}
}

// What sinks have learnt stays true: a reason never gets another number.
func TestDropReasonsKeepTheirNumbers(t *testing.T) {
	assert.Len(t, dropNames, int(NumDropReasons))
	for number, name := range map[DropReason]string{
		0: "malformed", 13: "spoofed", 16: "no_route", 25: "punt_rate", 26: "reason-26", 63: "reason-63",
	} {
		assert.Equal(t, name, number.String())
	}
}
