// SPDX-License-Identifier: Apache-2.0

// Package console drives a dpdk-testpmd by its command line.
package console

import (
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// How long testpmd may take to start or to end, and to answer.
const (
	startTimeout = 60 * time.Second
	replyTimeout = 20 * time.Second
)

// Prompt is what testpmd prints when it is ready for a command.
const Prompt = "testpmd> "

const lineMax = 511 // testpmd reads no more of a command

// Console is a testpmd that runs until its test ends.
type Console struct {
	stdin  io.Writer
	output output
}

// Start runs cmd, which is an interactive testpmd, and waits until it is ready for a command. At the test's end testpmd
// gets the command to quit, and has to do so without an error; if the test has failed, what testpmd printed is logged.
func Start(t testing.TB, cmd *exec.Cmd) *Console {
	t.Helper()
	c := &Console{output: output{news: make(chan struct{}, 1)}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = &c.output, &c.output
	var err error
	c.stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { c.quit(t, cmd) })
	greeting, ok := c.output.await(startTimeout, 0, isReady)
	require.True(t, ok, "testpmd has not started: %s", greeting)
	return c
}

func (c *Console) quit(t testing.TB, cmd *exec.Cmd) {
	_, err := io.WriteString(c.stdin, "quit\n")
	assert.NoError(t, err)
	kill := time.AfterFunc(startTimeout, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	assert.NoError(t, cmd.Wait())
	if t.Failed() {
		t.Log(c.Since(0))
	}
}

// Ask types a command and returns what testpmd answers until it is ready for the next one.
func (c *Console) Ask(t testing.TB, command string) string {
	t.Helper()
	require.LessOrEqual(t, len(command), lineMax, "testpmd does not read more of a line")
	mark := c.Mark()
	_, err := io.WriteString(c.stdin, command+"\n")
	require.NoError(t, err)
	answer, ok := c.output.await(replyTimeout, mark, isReady)
	require.True(t, ok, "%s: %s", command, answer)
	return strings.TrimSuffix(strings.TrimPrefix(answer, command+"\r\n"), Prompt)
}

// Says waits until what testpmd has printed of its own accord since mark matches the regular expression.
func (c *Console) Says(t testing.TB, mark int, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	said, ok := c.output.await(replyTimeout, mark, re.MatchString)
	require.True(t, ok, "testpmd did not say %q but %s", pattern, said)
}

// Mark is the length of what testpmd has printed so far.
func (c *Console) Mark() int { return len(c.Since(0)) }

// Since returns what testpmd has printed since a Mark.
func (c *Console) Since(mark int) string {
	c.output.mu.Lock()
	defer c.output.mu.Unlock()
	return c.output.text.String()[mark:]
}

func isReady(printed string) bool { return strings.HasSuffix(printed, Prompt) }

// output collects what testpmd prints.
type output struct {
	mu   sync.Mutex
	text strings.Builder
	news chan struct{} // has room for one: there is more text
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.news <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

// await returns what there is since mark as soon as it is enough, or else when the time is over.
func (o *output) await(timeout time.Duration, mark int, enough func(string) bool) (text string, ok bool) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		o.mu.Lock()
		text = o.text.String()[mark:]
		o.mu.Unlock()
		if enough(text) {
			return text, true
		}
		select {
		case <-o.news:
		case <-deadline.C:
			return text, false
		}
	}
}
