// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/test/topology"
)

// agent is the uid of somebody who is neither root nor the daemon's user.
const agent = 5001

// asAgent runs dpctl as the agent.
func (b *lab) asAgent(args ...string) topology.Result {
	b.t.Helper()
	argv := append([]string{"setpriv", fmt.Sprintf("--reuid=%d", agent), fmt.Sprintf("--regid=%d", agent), "--clear-groups",
		b.daemons[0].DpctlPath(), "--socket", b.daemons[0].Socket}, args...)
	r, err := b.net.Run(b.ctx, "", argv...)
	require.NoError(b.t, err)
	return r
}

// auditRecord is a line of the audit log.
type auditRecord struct {
	Message string `json:"msg"`
	Method  string `json:"method"`
	Peer    struct {
		UID  int    `json:"uid"`
		PID  int    `json:"pid"`
		Comm string `json:"comm"`
	} `json:"peer"`
	Result      string          `json:"result"`
	Params      json.RawMessage `json:"params"`
	MissingRule string          `json:"missing_rule"`
	Capture     string          `json:"capture"`
	Reason      string          `json:"reason"`
	Filter      string          `json:"filter"`
	Sink        string          `json:"sink"`
	Packets     uint64          `json:"packets"`
	Targets     []struct {
		Interface string `json:"interface"`
		VNI       uint32 `json:"vni"`
		Packets   uint64 `json:"packets"`
	} `json:"targets"`
}

// audited waits until the audit log has this number of records that fit, and returns them.
func (b *lab) audited(path string, count int, fits func(auditRecord) bool) (all []auditRecord) {
	b.t.Helper()
	b.eventually(func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all = nil
		for line := range strings.Lines(string(text)) {
			var r auditRecord
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return fmt.Errorf("%w: %s", err, line)
			}
			if fits(r) {
				all = append(all, r)
			}
		}
		if len(all) != count {
			return fmt.Errorf("%d of %d records in\n%s", len(all), count, text)
		}
		return nil
	})
	return all
}

// TestAccessAndAudit has somebody capture who may capture one network only. The audit log has each change, the denial,
// and both ends of captures with their totals; it is rotated, and the rules are changed, while the daemon runs.
func TestAccessAndAudit(t *testing.T) {
	ctx, n := newNetwork(t, 2)
	path, vm1, vm2 := n.Path("audit.json"), n.Guests()[0], n.Guests()[1]
	rules := fmt.Sprintf("access: [{uids: [%d], allow: [captures], captures: {vnis: [%d], max_duration: 1m}}]\n", agent, vm1.VNI)
	b := startLab(ctx, t, n, topology.DaemonConfig{Extra: "audit: " + path + "\n" + rules})
	d := b.daemons[0]
	require.NoError(t, os.Chmod(filepath.Dir(d.Socket), 0o755))
	require.NoError(t, os.Chmod(d.Socket, 0o666)) // in place of the membership in its group
	created := b.audited(path, len(n.Guests()), func(r auditRecord) bool { return r.Method == "interface.create" })
	require.Equal(t, "change done dpctl", strings.Join([]string{created[0].Message, created[0].Result, created[0].Peer.Comm}, " "))
	require.Zero(t, created[0].Peer.UID)
	require.Contains(t, string(created[0].Params), vm1.ID)

	r := b.asAgent("interface", "list")
	require.ErrorContains(t, r.Err(), "no rule of access allows read (PERMISSION_DENIED)")
	r = b.asAgent(captureStart(n.SinkIP.String(), "--pf=0", "--duration=1s")...)
	require.ErrorContains(t, r.Err(), "access[0] allows captures of some interfaces only, not of pf0, which sees all")
	r = b.asAgent("-o", "name", "system", "access")
	require.NoError(t, r.Err())
	require.Equal(t, []string{"system.access", "trace.start", "trace.read", "trace.stop", "capture.start", "capture.stop"},
		strings.Fields(r.Stdout))
	denials := b.audited(path, 2, func(r auditRecord) bool { return r.Message == "denied" })
	require.Equal(t, "capture.start", denials[1].Method)
	require.Equal(t, agent, denials[1].Peer.UID)
	require.Contains(t, denials[1].MissingRule, "uids: ["+strconv.Itoa(agent)+"], allow: [captures]")

	b.reach(vm1, vm2.IPv4.String())
	traffic := b.startPing(vm1, vm2.IPv4.String(), 3*time.Second)
	require.NoError(t, b.asAgent(captureStart(n.SinkIP.String(), "--vf="+vm1.ID, "--duration=2s", "--filter=icmp")...).Err())
	ended := b.audited(path, 1, func(r auditRecord) bool { return r.Message == "capture ended" })[0]
	traffic.wait()
	require.Equal(t, []string{"default", "duration", "icmp", n.SinkIP.String()},
		[]string{ended.Capture, ended.Reason, ended.Filter, ended.Sink})
	require.Len(t, ended.Targets, 1)
	require.Equal(t, vm1.ID, ended.Targets[0].Interface)
	require.EqualValues(t, vm1.VNI, ended.Targets[0].VNI)
	require.Positive(t, ended.Packets)
	var status api.CaptureStatusResult
	b.call(api.MethodCaptureStatus, &status)
	require.Equal(t, status.History[0].Packets, ended.Packets)

	// Rotation, and the rule that is missing for the uplink, as the denial has it.
	require.NoError(t, os.Rename(path, path+".1"))
	configuration, err := os.ReadFile(d.ConfigFile)
	require.NoError(t, err)
	changed := strings.Replace(string(configuration), rules, "access:\n"+denials[1].MissingRule+"\n", 1)
	require.NoError(t, os.WriteFile(d.ConfigFile, []byte(changed), 0o600))
	require.NoError(t, syscall.Kill(d.Pid(), syscall.SIGHUP))
	b.eventually(func() error {
		if !strings.Contains(d.Stderr.String(), `reloaded" changed=[access]`) {
			return errors.New("not reloaded yet")
		}
		return nil
	})
	require.NoError(t, b.asAgent(captureStart(n.SinkIP.String(), "--pf=0", "--duration=1s", "--name=wire")...).Err())
	b.audited(path, 1, func(r auditRecord) bool { return r.Message == "capture ended" && r.Capture == "wire" })
	report := n.Path("report.tar.gz")
	b.dpctl("system", "report", "-o", report)
	listed, err := n.Run(ctx, "", "tar", "-xzOf", report, "dpservice-report/log.txt", "dpservice-report/configuration.yaml",
		"dpservice-report/check.txt")
	require.NoError(t, err)
	require.NoError(t, listed.Err())
	for _, want := range []string{"dpservice is up", "audit: " + path, "hugepages"} {
		require.Contains(t, listed.Stdout, want)
	}

	b.dpctl(captureStart(n.SinkIP.String(), "--vf="+vm2.ID, "--name=last")...)
	require.NoError(t, d.Stop(ctx))
	last := b.audited(path, 1, func(r auditRecord) bool { return r.Message == "capture ended" && r.Capture == "last" })
	require.Equal(t, "daemon_ended", last[0].Reason)
	all := slices.Concat(b.audited(path+".1", 1, func(r auditRecord) bool { return r.Message == "capture ended" }), last)
	require.Len(t, all, 2)
}
