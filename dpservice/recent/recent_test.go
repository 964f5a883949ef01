// SPDX-License-Identifier: Apache-2.0

package recent

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheLastLinesAreKept(t *testing.T) {
	l := New(20)
	assert.Empty(t, l.All())
	for i := range 100 {
		fmt.Fprintf(l, "line %d\n", i)
	}
	assert.Equal(t, []string{"line 98", "line 99"}, l.All())
	fmt.Fprintln(l, strings.Repeat("x", 1000))
	assert.Equal(t, []string{strings.Repeat("x", 20)}, l.All(), "a long line is cut")
	fmt.Fprintln(l, "more")
	assert.Equal(t, []string{"more"}, l.All())
}

func TestALogInLines(t *testing.T) {
	l := New(1000)
	slog.New(slog.NewTextHandler(l, nil)).Info("two\nlines", "a", 1)
	assert.Len(t, l.All(), 1)
	assert.Contains(t, l.All()[0], `msg="two\nlines" a=1`)
}
