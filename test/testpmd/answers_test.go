// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/plugin"
	"dpservice/test/report"
	"dpservice/test/topology"
)

// nicUnderTest is a NIC that testpmd is to ask: EAL's arguments that bring it, and what testpmd calls its ports.
type nicUnderTest struct {
	eal   []string
	env   []string
	ports map[string]int
}

// question is a rule, and what the driver answers on each card.
type question struct {
	setup   []string // testpmd's commands before it
	answers map[string]string
	port    string
	rule    string
}

// TestAnswersOfTheDriver compares verdict and errno of each rule with those of net_mlx5 on the card.
func TestAnswersOfTheDriver(t *testing.T) {
	questions := readQuestions(t, "testdata/answers.txt")
	for _, card := range []string{"cx5", "cx6dx", "cx7"} {
		t.Run(card, func(t *testing.T) {
			differ := ask(t, testNIC(t, card), card, questions)
			report.Printf(t, "testpmd: net_eswitch as a %s answers %d rules, %d of them otherwise than net_mlx5", card, len(questions), differ)
		})
	}
}

// testNIC is a net_eswitch with PF0 and four VFs.
func testNIC(t *testing.T, card string) nicUnderTest {
	t.Helper()
	driver, remove, err := plugin.Install()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, remove()) })
	nic := nicUnderTest{ports: map[string]int{}}
	devargs := "--vdev=net_eswitch0,card=" + card
	names := []string{"pf0", "vf0", "vf1", "vf2", "vf3"}
	nic.eal = []string{"--no-pci", "-d", driver}
	for i, name := range names {
		nic.eal = append(nic.eal, fmt.Sprintf("--vdev=net_null%d,no-rx=1", i))
		devargs += fmt.Sprintf(",%s=net_null%d", name, i)
		nic.ports[name] = len(names) + i // behind the far sides
	}
	nic.eal = append(nic.eal, devargs)
	return nic
}

func readQuestions(t *testing.T, path string) (questions []question) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer func() { assert.NoError(t, file.Close()) }()
	var setup []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "set "):
			setup = append(setup, line)
		default:
			f := strings.SplitN(strings.Join(strings.Fields(line), " "), " ", 4)
			require.Len(t, f, 4, line)
			questions = append(questions, question{setup, map[string]string{"cx5": f[0], "cx6dx": f[1], "cx7": f[1]}, f[2], f[3]})
			setup = nil
		}
	}
	require.NoError(t, lines.Err())
	return questions
}

// ask creates all rules on the NIC, and returns how many answers are not the driver's.
func ask(t *testing.T, nic nicUnderTest, card string, questions []question) (differ int) {
	t.Helper()
	var commands []string
	at := make([]int, len(questions)) // by question: its command
	for i, q := range questions {
		for _, c := range append(q.setup, fmt.Sprintf("flow create {%s} %s", q.port, q.rule)) {
			commands = append(commands, nic.withPorts(t, c))
		}
		at[i] = len(commands) - 1
	}
	said := nic.testpmd(t, commands)
	for i, q := range questions {
		if got := verdictOf(t, said[at[i]]); !assert.Equal(t, q.answers[card], got, "%s: %s\n%s", q.port, q.rule, said[at[i]]) {
			differ++
		}
	}
	return differ
}

var portName = regexp.MustCompile(`\{(\w+)\}`)

func (n nicUnderTest) withPorts(t *testing.T, command string) string {
	t.Helper()
	return portName.ReplaceAllStringFunc(command, func(name string) string {
		port, ok := n.ports[strings.Trim(name, "{}")]
		require.True(t, ok, command)
		return fmt.Sprint(port)
	})
}

// testpmd runs the commands, and returns what it says to each.
func (n nicUnderTest) testpmd(t *testing.T, commands []string) []string {
	t.Helper()
	lab, err := topology.New()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, lab.Close()) })
	args := append([]string{
		"-oL", "dpdk-testpmd", "--no-huge", "-m", "256", "--no-telemetry", "-l", "0,1", "--file-prefix", "answers",
	}, n.eal...)
	// stdbuf: line by line, or else its answers come later than its complaints.
	cmd := exec.CommandContext(t.Context(), "stdbuf", append(args, "--", "-i", "--total-num-mbufs=4096")...)
	cmd.Env = append(append(os.Environ(), "RUNTIME_DIRECTORY="+lab.Dir()), n.env...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\nquit\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	said := strings.Split(string(out), prompt)
	require.Len(t, said, len(commands)+2, "one answer for each command, the greeting and the end")
	return said[1:]
}

// verdictOf is "ok", or the name of the errno that testpmd has words for.
func verdictOf(t *testing.T, said string) string {
	t.Helper()
	require.NotContains(t, said, "Bad arguments")
	found := complaint.FindStringSubmatch(said + "\n")
	if found == nil {
		return "ok"
	}
	words := found[2][strings.LastIndex(found[2], ": ")+2:]
	name, ok := map[string]string{"Invalid argument": "EINVAL", "Operation not supported": "ENOTSUP", "No such device": "ENODEV"}[words]
	require.True(t, ok, said)
	return name
}
