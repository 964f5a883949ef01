// SPDX-License-Identifier: Apache-2.0

// Package daemon puts dpservice together: it starts the parts in order, and ends them in the reverse order.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"time"

	"dpservice/capture"
	"dpservice/cgo/eal"
	"dpservice/cgo/ethdev"
	"dpservice/cgo/mempool"
	"dpservice/dpservice/affinity"
	"dpservice/dpservice/audit"
	"dpservice/dpservice/config"
	"dpservice/dpservice/fence"
	"dpservice/dpservice/flow"
	"dpservice/dpservice/nic"
	"dpservice/dpservice/port"
	"dpservice/dpservice/port/dpdk"
	"dpservice/dpservice/recent"
	"dpservice/dpservice/slowpath"
	"dpservice/dpservice/state"
	"dpservice/dpservice/trace"
	"dpservice/dpservice/tunnel"
	"dpservice/dpservice/uplink"
	"dpservice/dpservice/vnet"
	"dpservice/graph"
	"dpservice/graph/nodes"
	"dpservice/rpc/server"
	"dpservice/rteflow/ruleset"
)

// mbufCache is how many packet buffers each lcore keeps to itself.
const mbufCache = 256

// What a packet buffer holds besides the payload of a frame: the headroom, and an Ethernet header with two VLAN tags.
const (
	headroom      = 128
	frameOverhead = headroom + 14 + 8
)

// ipv6Header is the length of the outer header between hypervisors.
const ipv6Header = 40

type daemon struct {
	cfg      config.Config
	log      *slog.Logger
	started  time.Time
	cleanups unwinder
	fence    *fence.Fence
	recent   *recent.Lines // of the log
	checking sync.Mutex    // one check of the machine at a time

	listener *server.Listener
	server   *server.Server
	store    *state.Store // nil if nothing outlives the daemon
	audit    *audit.Log   // nil if nothing is written down
	networks virtualNetworks
	captures captures
	device   *dpdk.Device
	ports    *port.Manager
	workers  []int // lcores that run the graph
	pool     *mempool.Pool
	nic      *nic.NIC // nil without offload
	rules    *ruleset.Set
	graph    *nodes.Graph
	vnet     *vnet.Manager
	flows    *flow.Manager   // nil without offload
	tunnels  *tunnel.Manager // nil without offload
	capture  *capture.Manager
	trace    *trace.Manager
	slow     *slowpath.SlowPath
	uplinks  *uplink.Manager
}

// Run runs dpservice until ctx is done, with another configuration when reload says so, and then ends it cleanly. On an
// error nothing that it started stays. EAL starts only once in a process, so Run can be called only once.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger, reload Reload) (err error) {
	lines := recent.New(recentBytes)
	log = remembering(log, lines, reload.Level)
	d := &daemon{cfg: cfg, log: log, started: time.Now(), fence: fence.New(log), recent: lines}
	defer func() { err = errors.Join(err, d.cleanups.run(d.log)) }()
	steps := []struct {
		what string
		do   func() error
	}{
		{"open the socket", d.listen},
		{"open the state", d.openState},
		{"open the audit log", d.openAudit},
		{"start EAL", d.startEAL},
		{"find the ports", d.findPorts},
		{"give the workers their CPUs", d.placeWorkers},
		{"make the packet buffers", d.makePool},
		{"start the ports", d.startPorts},
		{"set the NIC's base rules", d.setBaseRules},
		{"start the packet graph", d.startGraph},
		{"start the control of flows and neighbours", d.startControl},
		{"restore the state", d.restore},
		{"serve the metrics", d.serveMetrics},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("cannot %s: %w", s.what, err)
		}
		if ctx.Err() != nil {
			return nil // ctx was done before the daemon was up
		}
	}
	d.log.Info("dpservice is up", "socket", cfg.Socket, "node", cfg.Underlay.IP, "offload", cfg.Offload, "ports",
		len(d.ports.List()))
	serverConfig := server.Config{
		MaxClients: cfg.RPC.MaxClients, MaxClientsPerUser: cfg.RPC.MaxClientsPerUser,
		IdleTimeout: cfg.RPC.IdleTimeout, RequestTimeout: cfg.RPC.RequestTimeout,
		Access: d.policy(cfg.Access), Fence: d.fence, Log: d.log,
	}
	if d.audit != nil {
		serverConfig.Audit = d.audit
	}
	d.server = server.New(d.services(), serverConfig)
	defer d.supervise(ctx, reload)()
	err = d.server.Serve(ctx, d.listener)
	d.auditEnd()
	d.log.Info("dpservice ends")
	return err
}

func (d *daemon) listen() (err error) {
	d.listener, err = server.Listen(d.cfg.Socket)
	if err == nil {
		d.cleanups.add("close the socket", d.listener.Close)
	}
	return err
}

func (d *daemon) startEAL() error {
	if err := eal.Init(d.cfg.EAL); err != nil {
		return err
	}
	d.cleanups.add("end EAL", eal.Cleanup)
	d.cleanups.add("close the ports that are not in use", closePorts)
	_, workers := eal.Lcores()
	if len(workers) == 0 {
		return errors.New("no lcore is left for a worker: name two with -l")
	}
	return nil
}

// closePorts closes all ports. EAL does not end cleanly while a port that is built on others is open.
func closePorts() error {
	var errs []error
	for _, id := range ethdev.List() {
		errs = append(errs, ethdev.Close(id))
	}
	return errors.Join(errs...)
}

// leastProcs is the smallest GOMAXPROCS. With 1, all goroutines, the signal handler included, would wait for a thread
// that the kernel does not schedule.
const leastProcs = 2

// placeWorkers uses as many lcores for workers as every port has queues: worker n uses queue n of each port. The other
// threads of the process leave the workers' CPUs.
func (d *daemon) placeWorkers() error {
	_, lcores := eal.Lcores()
	queues, least := d.ports.Queues(len(lcores))
	if queues < len(lcores) {
		d.log.Info("lcores stay idle: a port has too few queues for them", "lcores", lcores[queues:], "port", least.Name,
			"queues", queues)
	}
	d.workers = lcores[:queues]
	runtime.GOMAXPROCS(max(leastProcs, runtime.NumCPU()-queues))
	var cpus []int
	for _, lcore := range d.workers {
		cpus = append(cpus, eal.CPUs(lcore)...)
	}
	return affinity.Leave(cpus)
}

func (d *daemon) findPorts() (err error) {
	names := port.Names{PF0: d.cfg.Ports.PF0, PF1: d.cfg.Ports.PF1, VFs: d.cfg.Ports.VFs}
	d.device = &dpdk.Device{}
	d.ports, err = port.Discover(d.device, names, d.log)
	return err
}

func (d *daemon) makePool() (err error) {
	room := max(mempool.DataRoom, headroom+d.cfg.MbufSize)
	for _, p := range d.ports.List() {
		room = max(room, int(p.MTU)+frameOverhead)
	}
	d.pool, err = mempool.NewPktmbuf("dpservice", d.cfg.Mbufs, mbufCache, 0, room)
	if err == nil {
		d.cleanups.add("free the packet buffers", func() error { d.pool.Free(); return nil })
	}
	return err
}

func (d *daemon) startPorts() error {
	d.cleanups.add("close the ports", d.ports.Close)
	if d.cfg.Offload {
		if err := nic.Isolate(nic.RTEFlow{}, d.ports.List(), d.ports.HasKernelTwin); err != nil {
			return err
		}
	}
	d.device.Pool = d.pool
	if err := d.ports.Configure(len(d.workers)); err != nil {
		return err
	}
	if err := d.ports.Start(); err != nil {
		return err
	}
	d.cleanups.add("stop the ports", d.ports.Stop)
	return nil
}

func (d *daemon) setBaseRules() (err error) {
	if !d.cfg.Offload {
		d.rules = ruleset.New(nic.RTEFlow{})
		return nil
	}
	d.nic, err = nic.Probe(nic.RTEFlow{}, d.ports.List(), d.cfg.Underlay.IP, d.ports.HasKernelTwin)
	if err != nil {
		return err
	}
	if err := d.nic.LastHop(); err != nil {
		d.log.Warn("guests get no ICMP error when the TTL of an offloaded packet is used up: the NIC takes no rule for it",
			"err", err)
	}
	d.rules = ruleset.New(d.nic)
	d.cleanups.add("remove the rules", d.rules.Clear)
	return d.rules.Apply(ruleset.Add(d.nic.BaseRules()...))
}

func (d *daemon) startGraph() (err error) {
	cfg := nodes.Config{NodeIP: d.cfg.Underlay.IP, Workers: d.workers, FlowCapacity: d.cfg.Flows.Capacity,
		Offload: d.cfg.Offload, Pool: d.pool,
		Timeouts: graph.Timeouts(d.cfg.Flows.Timeouts), PuntRate: d.cfg.SlowPath.Rate, PuntBurst: d.cfg.SlowPath.Burst}
	for _, p := range d.ports.List() {
		cfg.Ports = append(cfg.Ports, graph.PortConfig{ID: p.ID, Name: p.Name, VF: p.Role == port.VF, PF: pfNumber(p),
			MTU: p.MTU})
	}
	d.graph, err = nodes.New(cfg)
	if err != nil {
		return err
	}
	d.cleanups.add("close the packet graph", d.graph.Close)
	if err := d.graph.Start(); err != nil {
		return err
	}
	d.cleanups.add("stop the packet graph", d.graph.Stop)
	return nil
}

func pfNumber(p port.Port) int {
	if p.Role == port.PF {
		return p.Index
	}
	return 0
}

func (d *daemon) startControl() error {
	d.vnet = vnet.New(vnet.Config{
		NodeIP: d.cfg.Underlay.IP, Ports: d.ports, Dataplane: dataplane{d.graph, d.cfg.Underlay, d.reroute},
		GatewayPrefix: d.cfg.Guests.GatewayPrefix, MaxInterfaces: graph.MaxInterfaces, MaxRoutes: graph.MaxRoutes,
	})
	if d.cfg.Offload {
		d.tunnels = tunnel.New(tunnel.Config{Graph: d.graph, NIC: d.nic, Rules: d.rules})
		d.flows = flow.New(flow.Config{
			Graph: d.graph, NIC: d.nic, Rules: d.rules, Tunnels: d.tunnels, HasInterface: d.hasInterface,
			Max: d.cfg.Flows.MaxOffload, Shares: len(d.graph.FlowTable().Shares), Timeout: d.cfg.Flows.Timeout, Log: d.log,
		})
	}
	d.capture = capture.New(d.captureDeps())
	d.trace = trace.New(d.traceConfig())
	d.uplinks = d.newUplinks()
	d.slow = slowpath.New(slowpath.Config{
		Guests: d.vnet, Send: d.graph.Inject, Uplinks: d.slowPathUplinks(), NodeIP: d.cfg.Underlay.IP,
		FindsRouter: d.uplinks.FindsRouter, OnRouter: d.uplinks.Discovered, Now: time.Now, Log: d.log,
		Network: slowpath.Network{DNS: d.cfg.Guests.DNS, MTU: d.guestMTU(), LeaseTime: d.cfg.Guests.LeaseTime},
	})
	if err := d.setUplinks(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks tasks
	d.cleanups.add("end the control of flows and neighbours", func() error { cancel(); tasks.wait(); return nil })
	start := func(part string, run func(context.Context)) {
		tasks.start(func() { d.fence.Run(ctx, part, run) })
	}
	start("punts", func(ctx context.Context) { handlePunts(ctx, d.graph.Punts(), d.fence, d.slow.Handle) })
	start("slow_path", d.slow.Run)
	start("uplinks", d.uplinks.Run)
	start("kernel_neighbours", d.newKernelWatcher().Run)
	start("captures", d.capture.Run)
	if d.flows != nil {
		start("flows", d.flows.Run)
	}
	return nil
}

// guestMTU returns the MTU that guests get: at most that of the VFs, and that of each uplink less the outer header.
func (d *daemon) guestMTU() uint16 {
	mtu := uint16(math.MaxUint16)
	for _, p := range d.ports.List() {
		if p.Role == port.PF {
			p.MTU -= ipv6Header
		}
		mtu = min(mtu, p.MTU)
	}
	if d.cfg.Guests.MTU != 0 {
		mtu = min(mtu, uint16(d.cfg.Guests.MTU))
	}
	return mtu
}

func (d *daemon) captureDeps() capture.Deps {
	deps := capture.Deps{Rules: d.rules, Ended: d.captureEnded, Ports: capturePorts{d.ports, d.vnet}, Taps: d.graph,
		MaxInterfaces: d.cfg.Capture.MaxInterfaces, MaxRules: d.cfg.Capture.MaxRules}
	if d.nic != nil {
		deps.NIC, deps.CounterLag = d.nic, nic.CounterLag(d.ports.Driver())
	}
	return deps
}

func (d *daemon) traceConfig() trace.Config {
	cfg := trace.Config{Graph: d.graph, Networks: d.vnet.Networks, Offload: d.cfg.Offload, Describe: flows{d}.describe,
		PortName: d.portName, Log: d.log}
	if d.flows != nil {
		cfg.Offloaded = d.offloadedOf
	}
	return cfg
}

// offloadedOf is how many flows from and to the guest on a port the NIC forwards.
func (d *daemon) offloadedOf(port uint16) int {
	n := 0
	for _, s := range d.flows.Shares() {
		if s.Port == port {
			n += s.Rules
		}
	}
	return n
}

func (d *daemon) hasInterface(index uint16) bool {
	_, ok := d.vnet.ByIndex(index)
	return ok
}

// handlePunts passes frames of guests and of the wire from the packet graph to the slow path. They are untrusted: a
// frame that makes the slow path panic is lost.
func handlePunts(ctx context.Context, punts <-chan graph.Punt, fence *fence.Fence,
	handle func(port uint16, frame []byte)) {
	for {
		select {
		case <-ctx.Done():
			return
		case p, ok := <-punts:
			if !ok {
				return
			}
			_ = fence.Do("slow_path_frames", func() { handle(p.Port, p.Frame) }) // it counts and logs a panic
		}
	}
}
