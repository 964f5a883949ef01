// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// ask sends a command to DPDK's telemetry in the first daemon and puts the answer into result.
func (b *lab) ask(command string, result any) {
	b.t.Helper()
	conn, err := net.DialTimeout("unixpacket", b.daemons[0].TelemetrySocket(), stateTimeout)
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, conn.Close()) }()
	require.NoError(b.t, conn.SetDeadline(time.Now().Add(stateTimeout)))
	answer := make([]byte, 64<<10)
	n, err := conn.Read(answer) // a greeting
	require.NoError(b.t, err)
	require.Contains(b.t, string(answer[:n]), "max_output_len")
	_, err = conn.Write([]byte(command))
	require.NoError(b.t, err)
	n, err = conn.Read(answer)
	require.NoError(b.t, err)
	require.NoError(b.t, json.Unmarshal(answer[:n], result), "%s: %s", command, answer[:n])
}

// refusal is a call of the NIC that shall fail: the nth create or destroy from now on.
type refusal struct {
	call string
	nth  int
	all  bool // all later calls fail, too
}

// refusedErrno is the errno of the refusals.
const refusedErrno = syscall.EBUSY

// refuse makes the first daemon's NIC fail these calls.
func (b *lab) refuse(refusals ...refusal) {
	b.t.Helper()
	require.Equal(b.t, len(refusals), b.fault(failArgs(refusals...)))
}

// failArgs returns the arguments of the telemetry command that makes the NIC refuse.
func failArgs(refusals ...refusal) string {
	calls := map[string][]string{}
	for _, r := range refusals {
		nth := strconv.Itoa(r.nth)
		if r.all {
			nth += "+"
		}
		calls[r.call] = append(calls[r.call], nth)
	}
	args := fmt.Sprintf("fail_errno=%d", refusedErrno)
	for call, nth := range calls {
		args += fmt.Sprintf(",fail_%s=%s", call, strings.Join(nth, ":"))
	}
	return args
}

var errPending = errors.New("the NIC has not been asked for all that it is to refuse")

// relented returns nil when the NIC has refused all calls that it should.
func (b *lab) relented() error {
	b.t.Helper()
	if b.fault("") > 0 {
		return errPending
	}
	return nil
}

// relent ends the refusals. It returns whether the NIC has refused all calls that it should.
func (b *lab) relent() bool {
	b.t.Helper()
	pending := b.fault("")
	b.fault("clear")
	return pending == 0
}

// fault sends a fault, "clear" or nothing to the first daemon's NIC. It returns how many more calls will fail.
func (b *lab) fault(args string) (pending int) {
	b.t.Helper()
	command := b.net.NIC.FaultCommand(args)
	var answer map[string]struct {
		Error   string
		Pending int
	}
	b.ask(command, &answer)
	name, _, _ := strings.Cut(command, ",")
	require.Empty(b.t, answer[name].Error)
	return answer[name].Pending
}

// created returns how many rules the first daemon's card has created.
func (b *lab) created() int {
	b.t.Helper()
	const command = "/connectx/counters"
	var answer map[string]struct{ Create int }
	b.ask(command, &answer)
	return answer[command].Create
}

// nicRule is a rule as the NIC describes it.
type nicRule struct {
	Port, Domain    string
	Group, Priority uint32
}

func (r nicRule) compare(other nicRule) int {
	return cmp.Or(cmp.Compare(r.Port, other.Port), cmp.Compare(r.Domain, other.Domain), cmp.Compare(r.Group, other.Group),
		cmp.Compare(r.Priority, other.Priority))
}

// nicLines returns the rules in the first daemon's NIC, as the NIC lists them.
func (b *lab) nicLines() (lines []string) {
	b.t.Helper()
	for {
		var answer map[string]string
		command := b.net.NIC.RulesCommand(len(lines))
		b.ask(command, &answer)
		name, _, _ := strings.Cut(command, ",")
		if answer[name] == "" {
			slices.Sort(lines)
			return lines
		}
		for line := range strings.Lines(answer[name]) {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
}

// nicRules parses the lines of the NIC.
func (b *lab) nicRules(lines []string) ([]nicRule, error) {
	rules := make([]nicRule, len(lines))
	for i, line := range lines {
		r, owner := &rules[i], ""
		_, err := fmt.Sscanf(line, "on %s from %s %s group %d priority %d", &owner, &r.Port, &r.Domain, &r.Group, &r.Priority)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, line)
		}
		if r.Port == "any" { // rule.list shows rules for all ports by the one that they are on
			r.Port = owner
		}
		r.Port = strings.Replace(b.net.NIC.PFs[0]+"_representor_"+r.Port, "_representor_pf0", "", 1)
	}
	slices.SortFunc(rules, nicRule.compare)
	return rules, nil
}
