// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"dpservice/rpc/api"
	"dpservice/test/record"
	"dpservice/test/topology"
	"dpservice/tools/fleet/api/v1alpha1"
	"dpservice/tools/fleet/internal/bucket"
	"dpservice/tools/fleet/test/cluster"
)

// fleet is a cluster of two hypervisors, each with a daemon, a guest and an agent.
type fleet struct {
	t       *testing.T
	ctx     context.Context
	cluster *cluster.Cluster
	client  client.Client
	net     *topology.Network
	daemons []*topology.Daemon
	agents  []*program
	summary *program
	dir     string
	person  string // kubeconfig of somebody who captures
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	n, err := topology.NewNetwork(1, 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	f := &fleet{t: t, ctx: ctx, net: n, dir: t.TempDir(), cluster: cluster.Start(t)}
	f.client = f.cluster.Client(t)
	f.person = f.cluster.KubeconfigOf(t, cluster.Person)
	t.Cleanup(func() { assert.Empty(t, f.cluster.Denied(), "rights that deploy/fleet lacks") })
	for _, h := range n.Hypervisors {
		d, err := h.StartDaemon(ctx, topology.DaemonConfig{Extra: f.rights()})
		require.NoError(t, err)
		f.daemons = append(f.daemons, d)
	}
	require.NoError(t, topology.Connect(ctx, n, f.daemons))
	for i := range f.daemons {
		f.cluster.SetNode(node(i), map[string]string{"rack": fmt.Sprintf("r%d", i+1)})
		f.agents = append(f.agents, f.startAgent(i))
	}
	f.forward(n.Sink, f.cluster.Config.Host)
	f.summary = f.startBy(f.as("dpservice-summary"), "dpservice-summary", "--patience=5s", "--leader-elect=false")
	return f
}

func node(i int) string { return []string{"hv1", "hv2"}[i] }

// agentUID is who agents are in deploy/fleet: neither root nor the daemon's user.
const agentUID = 64999

// rights are those that docs/fleet.md gives to agents.
func (f *fleet) rights() string {
	network := netip.PrefixFrom(f.net.SinkIP, 64).Masked()
	return fmt.Sprintf("access: [{uids: [%d], allow: [read, captures], captures: {sinks: [%q]}}]\n", agentUID, network)
}

// startAgent starts a node's agent, which may do no more than in a pod.
func (f *fleet) startAgent(i int) *program {
	f.t.Helper()
	f.letAgentIn(i)
	user := fmt.Sprint(agentUID)
	become := []string{"setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups", "--bounding-set=-all",
		"--inh-caps=-all", "--no-new-privs", "--pdeathsig=KILL"}
	return f.startBy(append(become, f.as("dpservice-agent")...), "dpservice-agent", "--node="+node(i),
		"--socket="+f.daemons[i].Socket)
}

// as returns what starts a program with a service account's rights in the cluster.
func (f *fleet) as(account string) []string {
	f.t.Helper()
	return []string{"env", "KUBECONFIG=" + f.cluster.KubeconfigOf(f.t, account)}
}

// letAgentIn lets the agent connect to a daemon, in place of the membership in the socket's group.
func (f *fleet) letAgentIn(i int) {
	f.t.Helper()
	socket := f.daemons[i].Socket
	require.NoError(f.t, os.Chmod(filepath.Dir(socket), 0o755))          //nolint:gosec // nothing in it is secret
	if err := os.Chmod(socket, 0o666); !errors.Is(err, fs.ErrNotExist) { //nolint:gosec // who may do what is in the rights
		require.NoError(f.t, err)
	}
}

// program is a running command of this module.
type program struct {
	cmd *exec.Cmd
	out *topology.Output
	end sync.Once
}

// startBy starts a command by a program that becomes it. It ends with the test.
func (f *fleet) startBy(prefix []string, name string, args ...string) *program {
	f.t.Helper()
	argv := slices.Concat(prefix, []string{filepath.Join(buildDir, "fleet", name)}, args)
	p := &program{cmd: exec.Command(argv[0], argv[1:]...), out: &topology.Output{}}
	p.cmd.Env = append(os.Environ(), "KUBECONFIG="+f.cluster.Kubeconfig)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(f.t, p.cmd.Start(), "make build-fleet builds %s", name)
	f.t.Cleanup(func() {
		memory := p.memory()
		p.stop(syscall.SIGTERM)
		f.t.Logf("%s: %s of memory at most, %s of CPU", name, memory,
			p.cmd.ProcessState.UserTime()+p.cmd.ProcessState.SystemTime())
		if f.t.Failed() {
			f.t.Logf("%s %v:\n%s", name, args, p.out)
		}
	})
	return p
}

// memory returns how much memory a program has used at most; "?" if it has ended.
func (p *program) memory() string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)) // it may have ended
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	peak, _, _ = strings.Cut(peak, "\n")
	return cmp.Or(strings.TrimSpace(peak), "?")
}

// stop ends a program, and waits until it has ended.
func (p *program) stop(signal os.Signal) {
	p.end.Do(func() {
		_ = p.cmd.Process.Signal(signal)
		_ = p.cmd.Wait() // its output says what went wrong
	})
}

// startCollector starts a collector at the sink. Its files go to f.dir.
func (f *fleet) startCollector(args ...string) *program {
	f.t.Helper()
	enter := []string{"ip", "netns", "exec", f.net.Sink.Name}
	return f.startBy(append(enter, f.as("dpservice-collector")...), "dpservice-collector", append([]string{
		"--name=collector-0", "--address=" + f.net.SinkIP.String(), "--dir=" + f.dir}, args...)...)
}

// forward lets a namespace reach a server of the host, which listens on loopback only, at the same address.
func (f *fleet) forward(ns *topology.Namespace, server string) {
	f.t.Helper()
	u, err := url.Parse(server)
	require.NoError(f.t, err)
	path := f.net.Path("forward-" + u.Port())
	l, err := net.Listen("unix", path)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, l.Close()) })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go relay(from, u.Host)
		}
	}()
	_, err = ns.Start("socat", "TCP-LISTEN:"+u.Port()+",bind=127.0.0.1,fork,reuseaddr", "UNIX-CONNECT:"+path)
	require.NoError(f.t, err)
}

func relay(from net.Conn, address string) {
	defer from.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
}

// plugin runs kubectl dpcapture, by Debian's kubectl.
func (f *fleet) plugin(args ...string) (string, error) {
	f.t.Helper()
	f.t.Setenv("PATH", filepath.Join(buildDir, "fleet")+":"+os.Getenv("PATH"))
	return f.cluster.Kubectl(f.t, nil, append([]string{"dpcapture", "--kubeconfig=" + f.person}, args...)...)
}

func (f *fleet) mustPlugin(args ...string) string {
	f.t.Helper()
	out, err := f.plugin(args...)
	require.NoError(f.t, err, out)
	return out
}

// eventually waits until a condition holds.
func (f *fleet) eventually(what string, holds func() bool) {
	f.t.Helper()
	require.Eventually(f.t, holds, time.Minute, 200*time.Millisecond, what)
}

func (f *fleet) capture(name string) (c v1alpha1.PacketCapture) {
	_ = f.client.Get(f.ctx, client.ObjectKey{Name: name}, &c) // it may be gone
	return c
}

// sessions returns the names of the sessions that a daemon has.
func (f *fleet) sessions(i int) (names []string) {
	f.t.Helper()
	var status api.CaptureStatusResult
	require.NoError(f.t, f.daemons[i].Call(f.ctx, api.MethodCaptureStatus, nil, &status))
	for _, s := range status.Sessions {
		names = append(names, s.Name)
	}
	return names
}

// One resource captures a tenant's ping on both of its hypervisors, and the files are what the guests have sent.
func TestATenantOnAllHypervisors(t *testing.T) {
	f := newFleet(t)
	collector := f.startCollector()
	f.startCollector("--name=collector-3", "--first-port=3200")
	f.eventually("there are two collectors", func() bool {
		var all v1alpha1.PacketCollectorList
		require.NoError(t, f.client.List(f.ctx, &all))
		return len(all.Items) == 2
	})
	vm1, vm2 := f.net.Hypervisors[0].Guests[0], f.net.Hypervisors[1].Guests[0]
	out := f.mustPlugin("start", "tenant-a", "--vni=100", "--filter=icmp", "--tenant=acme")
	assert.Contains(t, out, "tenant-a started")
	f.eventually("both nodes capture", func() bool { return f.capture("tenant-a").Status.Nodes.Active == 2 })
	recorders := map[string]*record.Recorder{}
	for i, g := range []*topology.Guest{vm1, vm2} {
		r, err := record.Start(f.ctx, g.Namespace, "eth0", f.net.Path(g.ID+".pcap"), record.Out, "icmp")
		require.NoError(t, err)
		recorders[node(i)+"/"+g.ID] = r
	}
	result, err := vm1.Run(f.ctx, "ping", "-n", "-c", "20", "-i", "0.1", vm2.IPv4.String())
	require.NoError(t, err)
	require.NoError(t, result.Err())

	f.mustPlugin("stop", "tenant-a")
	f.eventually("it has ended", func() bool { return f.capture("tenant-a").Status.State == v1alpha1.Ended })
	assert.EqualValues(t, 40, f.capture("tenant-a").Status.Packets)
	for _, name := range []string{"collector-0", "collector-3"} {
		files, err := filepath.Glob(filepath.Join(f.dir, "*", name+"_*.pcapng"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		info, err := os.Stat(files[0])
		require.NoError(t, err)
		assert.Greater(t, info.Size(), int64(20*98), "%s has one node's packets", name)
	}
	fetched := f.mustPlugin("fetch", "tenant-a", "--from="+f.dir, "-o", f.net.Path("out"))
	assert.Contains(t, fetched, "40 packets of 2 interfaces")

	received := read(t, f.net.Path("out/tenant-a.pcapng"))
	for name, r := range recorders {
		sent, err := r.Stop(f.ctx)
		require.NoError(t, err)
		require.Len(t, sent, 20)
		assert.Empty(t, record.Missing(sent, received[name]), name)
		assert.Len(t, received[name], 20, name)
	}
	status := f.mustPlugin("status", "tenant-a")
	assert.Contains(t, status, "hv1")
	assert.Contains(t, status, "hv2")

	f.mustPlugin("stop", "tenant-a", "--delete")
	f.eventually("it is gone", func() bool { return f.capture("tenant-a").Name == "" })
	assert.NotContains(t, collector.out.String(), "level=ERROR")
}

// One command captures, waits, and fetches what the collector has taken to an S3-compatible store.
func TestOneCommandWithAStore(t *testing.T) {
	f := newFleet(t)
	store := f.startStore("captures")
	f.forward(f.net.Sink, store)
	f.startCollector("--store=" + store + "/captures")
	vm1, vm2 := f.net.Hypervisors[0].Guests[0], f.net.Hypervisors[1].Guests[0]
	pinged := make(chan error, 1)
	go func() {
		for f.ctx.Err() == nil && f.capture("once").Status.Nodes.Active < 2 {
			time.Sleep(100 * time.Millisecond)
		}
		result, err := vm1.Run(f.ctx, "ping", "-n", "-c", "10", "-i", "0.1", vm2.IPv4.String())
		pinged <- errors.Join(err, result.Err())
	}()
	out := f.mustPlugin("start", "once", "--vni=100", "--filter=icmp", "--duration=20s", "--tenant=acme", "-o",
		f.net.Path("out"), "--from="+store+"/captures")
	require.NoError(t, <-pinged)
	assert.Contains(t, out, "Active: active on 2 of 2 nodes")
	assert.Contains(t, out, "20 packets of 2 interfaces")
	left, err := filepath.Glob(filepath.Join(f.dir, "*", "*.pcapng"))
	require.NoError(t, err)
	assert.Empty(t, left, "what is uploaded is removed")

	out, err = f.plugin("start", "wrong", "--vni=100", "--filter=udp prot 53")
	assert.ErrorContains(t, err, "exit status 1", out)
	assert.Contains(t, out, "prot")
	out, err = f.plugin("start", "wrong", "--vnis=100")
	assert.ErrorContains(t, err, "exit status 2", out)
}

// startStore starts an S3-compatible store with a bucket, and returns its address.
func (f *fleet) startStore(name string) string {
	f.t.Helper()
	f.t.Setenv("AWS_ACCESS_KEY_ID", "test")
	f.t.Setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(f.t, err)
	at := l.Addr().String()
	require.NoError(f.t, l.Close())
	f.startBy(nil, "../bin/versitygw", "--access=test", "--secret=test-secret", "--port="+at, "posix", f.t.TempDir())
	store, _, err := bucket.Open("http://" + at + "/" + name)
	require.NoError(f.t, err)
	f.eventually("the store has a bucket", func() bool {
		return store.MakeBucket(f.ctx, name, minio.MakeBucketOptions{}) == nil
	})
	return "http://" + at
}

// read reads a merged file, whose packets have to be in order, by interface.
func read(t *testing.T, file string) map[string][]record.Frame {
	t.Helper()
	in, err := os.Open(file)
	require.NoError(t, err)
	defer in.Close()
	r, err := pcapgo.NewNgReader(in, pcapgo.DefaultNgReaderOptions)
	require.NoError(t, err)
	frames := map[string][]record.Frame{}
	var last time.Time
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return frames
		}
		require.NoError(t, err)
		assert.False(t, info.Timestamp.Before(last))
		last = info.Timestamp
		of, err := r.Interface(info.InterfaceIndex)
		require.NoError(t, err)
		assert.Contains(t, of.Comment, "VNI 100, tenant acme")
		frames[of.Name] = append(frames[of.Name], record.Frame{Time: info.Timestamp, Data: data})
	}
}

// A capture outlives its agent and its daemon, each is known again, a person's capture stays as it is, and a node that
// does not come back does not keep a deleted capture.
func TestRestarts(t *testing.T) {
	f := newFleet(t)
	byHand := api.CaptureStartParams{
		Name: "by-hand", SinkNodeIP: f.net.SinkIP.String(), UDPDstPort: 9, Interfaces: []api.CaptureSelector{{PF: new(int)}},
	}
	require.NoError(t, f.daemons[0].Call(f.ctx, api.MethodCaptureStart, byHand, nil))
	f.mustPlugin("start", "all", "--all", "--sink=["+f.net.SinkIP.String()+"]:3010")
	f.eventually("both nodes capture", func() bool { return f.capture("all").Status.Nodes.Active == 2 })
	before := f.sessions(0)
	require.Len(t, before, 2)

	f.agents[0].stop(syscall.SIGKILL)
	f.agents[0] = f.startAgent(0)
	time.Sleep(3 * time.Second)
	assert.Equal(t, before, f.sessions(0), "the agent knows its session again")

	require.NoError(t, f.daemons[1].Stop(f.ctx))
	f.eventually("the loss is reported", func() bool { return f.capture("all").Status.Nodes.Failed == 1 })
	assert.Contains(t, f.capture("all").Status.Problems[0].Error, "no daemon")
	require.NoError(t, f.daemons[1].Restart(f.ctx))
	f.letAgentIn(1)
	_, err := f.daemons[1].CreateInterfaces(f.ctx)
	require.NoError(t, err)
	f.eventually("it captures again", func() bool { return f.capture("all").Status.Nodes.Active == 2 })

	f.agents[1].stop(syscall.SIGKILL)
	f.mustPlugin("stop", "all", "--delete")
	f.eventually("it does not wait for the second node for ever", func() bool { return f.capture("all").Name == "" })
	assert.Equal(t, []string{"by-hand"}, f.sessions(0))
	require.Len(t, f.sessions(1), 1)
	f.agents[1] = f.startAgent(1)
	f.eventually("a node that is back ends its part", func() bool { return len(f.sessions(1)) == 0 })
}
