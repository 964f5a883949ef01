// SPDX-License-Identifier: Apache-2.0

package record_test

import (
	"testing"
	"time"

	"dpservice/test/record"

	"github.com/stretchr/testify/require"
)

var epoch = time.Unix(1000, 0)

func frame(second int, data string) record.Frame {
	return record.Frame{Time: epoch.Add(time.Duration(second) * time.Second), Data: []byte(data)}
}

func TestMissingCounts(t *testing.T) {
	a, b := frame(0, "a"), frame(0, "b")
	for name, test := range map[string]struct {
		want, got []record.Frame
		missing   int
	}{
		"equal in another order": {[]record.Frame{a, b}, []record.Frame{b, a}, 0},
		"one too few":            {[]record.Frame{a, a}, []record.Frame{a}, 1},
		"one too many":           {[]record.Frame{a}, []record.Frame{a, a}, 0},
		"another":                {[]record.Frame{a}, []record.Frame{b}, 1},
		"nothing":                {nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			require.Len(t, record.Missing(test.want, test.got), test.missing)
		})
	}
}

func TestCheck(t *testing.T) {
	window := record.Window{
		Starting: epoch.Add(10 * time.Second), Started: epoch.Add(20 * time.Second),
		Stopping: epoch.Add(30 * time.Second), Stopped: epoch.Add(40 * time.Second),
	}
	originals := []record.Frame{frame(5, "early"), frame(15, "maybe"), frame(25, "surely"), frame(35, "perhaps"),
		frame(45, "late")}
	for name, test := range map[string]struct {
		copies []record.Frame
		err    string
	}{
		"the surely captured":  {[]record.Frame{frame(0, "surely")}, ""},
		"all possible":         {[]record.Frame{frame(0, "surely"), frame(0, "maybe"), frame(0, "perhaps")}, ""},
		"one lost":             {[]record.Frame{frame(0, "maybe")}, "1 of 1 frames have no copy"},
		"one twice":            {[]record.Frame{frame(0, "surely"), frame(0, "surely")}, "1 of 2 copies have no original"},
		"one from before":      {[]record.Frame{frame(0, "surely"), frame(0, "early")}, "1 of 2 copies have no original"},
		"one from after":       {[]record.Frame{frame(0, "surely"), frame(0, "late")}, "1 of 2 copies have no original"},
		"one changed in a bit": {[]record.Frame{frame(0, "rurely")}, "1 of 1 frames have no copy"},
	} {
		t.Run(name, func(t *testing.T) {
			err := record.Check(test.copies, originals, window)
			if test.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.err)
			}
		})
	}
}
