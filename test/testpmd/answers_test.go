// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/test/plugin"
	"dpservice/test/report"
	"dpservice/test/testpmd/console"
	"dpservice/test/topology"
)

// nicUnderTest is a NIC that testpmd is to ask: EAL's arguments that bring it, and what testpmd calls its ports.
type nicUnderTest struct {
	name  string
	real  bool // it is the driver itself
	eal   []string
	run   []string // what testpmd is run by: a namespace, and an environment
	ports map[string]int
}

// question is a rule, and what the driver answers on each card; with a "!" behind it when it does not survive that.
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
		for _, nic := range []nicUnderTest{testNIC(t, card), virtualCard(t, card)} {
			t.Run(card+" "+nic.name, func(t *testing.T) {
				asked := nic.survives(card, questions)
				differ := ask(t, nic, card, asked)
				report.Printf(t, "testpmd: %s as a %s answers %d rules, %d of them otherwise than was measured", nic.name, card,
					len(asked), differ)
			})
		}
	}
}

// testNIC is a net_eswitch with PF0 and four VFs.
func testNIC(t *testing.T, card string) nicUnderTest {
	t.Helper()
	driver, remove, err := plugin.Install()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, remove()) })
	nic := nicUnderTest{name: "net_eswitch", ports: map[string]int{}}
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

// virtualCard is a virtual ConnectX with PF0 and four VFs, beneath the distribution's net_mlx5.
func virtualCard(t *testing.T, card string) nicUnderTest {
	t.Helper()
	library, err := plugin.Built("libconnectx.so")
	require.NoError(t, err)
	lab, err := topology.New()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, lab.Close()) })
	host, err := lab.Namespace("host", "net.ipv6.conf.default.disable_ipv6=1")
	require.NoError(t, err)
	nic := nicUnderTest{
		name:  "net_mlx5",
		real:  true,
		eal:   []string{"-a", "0000:03:00.0,dv_flow_en=1,dv_esw_en=1,representor=vf[0-3]"},
		ports: map[string]int{},
	}
	connectx := "CONNECTX=card=" + card
	for i, name := range []string{"pf0", "vf0", "vf1", "vf2", "vf3"} {
		require.NoError(t, lab.Link(host, "far-"+name, host, "end-"+name, 1500))
		connectx += fmt.Sprintf(",%s=far-%s", name, name)
		nic.ports[name] = i
	}
	nic.run = []string{"ip", "netns", "exec", host.Name, "env", connectx, "LD_PRELOAD=" + library}
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
			questions = append(questions, question{setup, map[string]string{"cx5": f[0], "cx6dx": f[1], "cx7": f[1]}, f[2],
				f[3]})
			setup = nil
		}
	}
	require.NoError(t, lines.Err())
	return questions
}

// survives is the questions that the NIC can be asked.
func (n nicUnderTest) survives(card string, questions []question) (asked []question) {
	var setup []string
	for _, q := range questions {
		q.setup = append(setup, q.setup...)
		if setup = nil; n.real && strings.HasSuffix(q.answers[card], "!") {
			setup = q.setup
			continue
		}
		asked = append(asked, q)
	}
	return asked
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
		if got := verdictOf(t, said[at[i]]); !assert.Equal(t, strings.TrimSuffix(q.answers[card], "!"), got, "%s: %s\n%s",
			q.port, q.rule, said[at[i]]) {
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
	// stdbuf: line by line, or else its answers come later than its complaints.
	args := append(slices.Clone(n.run), "stdbuf", "-oL", "dpdk-testpmd", "--no-huge", "-m", "256", "--no-telemetry", "-l",
		"0,1", "--file-prefix", "answers")
	args = append(append(args, n.eal...), "--", "-i", "--flow-isolate-all", "--total-num-mbufs=8192", "--rxd=256",
		"--txd=256")
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+lab.Dir())
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\nquit\n")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	said := strings.Split(string(out), console.Prompt)
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
	name, ok := map[string]string{"Invalid argument": "EINVAL", "Operation not supported": "ENOTSUP",
		"No such device": "ENODEV"}[words]
	require.True(t, ok, said)
	return name
}
