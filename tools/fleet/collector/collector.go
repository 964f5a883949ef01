// SPDX-License-Identifier: Apache-2.0

// Package collector receives the copies of PacketCaptures into files: for each capture at a UDP port of its own, so
// that no file has packets of two captures.
package collector

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"dpservice/capture/receive"
	"dpservice/tools/fleet/api/v1alpha1"
	"dpservice/tools/fleet/internal/clock"
	"dpservice/wire"
)

// Linger is how long copies are received after a capture has ended: the nodes' clocks and this one differ, and nodes
// that hear of an end later send on.
const Linger = 5 * time.Second

// retryInterval is how long it takes until a reception that has failed is tried again.
const retryInterval = 10 * time.Second

// Config says where to receive, and where to put it.
type Config struct {
	Name      string // of the collector, and of its PacketCollector
	Namespace string
	Pool      string
	Address   netip.Addr // where the nodes reach it
	FirstPort uint16
	Ports     int // as many captures can be received at once
	Dir       string
	Buffer    int // bytes that the kernel may hold for each capture; 0 means the default
	// A new file begins at this size, or age. Zero means no limit.
	RotateSize     int64
	RotateInterval time.Duration
	Files          int // of each capture are kept, the newest; 0 keeps all
	// Owner is the collector's pod, with which its PacketCollector goes; nil: it stays until it is removed.
	Owner *metav1.OwnerReference
	// Upload takes the files away, unless it is nil.
	Upload Store
}

// Collector is a running collector.
type Collector struct {
	config Config
	client client.Client
	log    *slog.Logger
	wake   chan event.GenericEvent // has Reconcile look again

	ctx        context.Context // of the receptions
	mu         sync.Mutex
	receptions map[string]*reception // by the captures' UIDs
	closed     bool                  // no reception begins any more
	running    sync.WaitGroup
}

// reception receives the copies of a capture.
type reception struct {
	folder     string
	generation int64 // of the capture, when it began
	encap      string
	cancel     context.CancelFunc
	port       uint16    // 0 while it does not receive
	done       bool      // it has ended
	err        error     // why, if it has failed
	again      time.Time // if it is done, when it may begin again; else, if the capture is over, when it ends
}

// Add has a manager run a collector. The end of the manager ends the receptions, and leaves the files complete.
func Add(m manager.Manager, c Config, log *slog.Logger) error {
	err := m.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.PacketCaptureNode{}, underlayIndex,
		func(o client.Object) []string { return []string{o.(*v1alpha1.PacketCaptureNode).Status.UnderlayIP} })
	if err != nil {
		return err
	}
	made := &Collector{
		config: c, client: m.GetClient(), log: log, receptions: map[string]*reception{},
		wake: make(chan event.GenericEvent, 1),
	}
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{}}
	})
	deleted := predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetDeletionTimestamp() != nil })
	if err := builder.ControllerManagedBy(m).Named("collector").
		Watches(&v1alpha1.PacketCapture{}, all, builder.WithPredicates(
			predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, deleted))).
		WatchesRawSource(source.Channel(made.wake, all)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, SkipNameValidation: new(true)}).
		Complete(made); err != nil {
		return err
	}
	return m.Add(manager.RunnableFunc(made.run))
}

// ClientOptions returns those of a manager's client: nobody but the collector writes its PacketCollector, so that is
// not watched.
func ClientOptions() client.Options {
	return client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&v1alpha1.PacketCollector{}}}}
}

// run keeps the receptions until ctx ends, and ends when their files are complete and taken away.
func (c *Collector) run(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
	c.lookAgain()
	c.upload(ctx)
	c.mu.Lock() // a Reconcile that has it may still begin a reception; later ones do not
	c.closed = true
	c.mu.Unlock()
	c.running.Wait()
	if c.config.Upload != nil {
		// ctx has ended, but the last files are complete only now.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastUpload)
		defer cancel()
		c.uploadAll(last)
	}
	return nil
}

// lookAgain has Reconcile look again.
func (c *Collector) lookAgain() {
	select {
	case c.wake <- event.GenericEvent{Object: &v1alpha1.PacketCollector{}}:
	default: // it is going to
	}
}

// Reconcile begins and ends receptions as the captures want, and says in the PacketCollector where they receive.
func (c *Collector) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var captures v1alpha1.PacketCaptureList
	if err := c.client.List(ctx, &captures); err != nil {
		return reconcile.Result{}, err
	}
	c.mu.Lock()
	wait := c.adjust(captures.Items, time.Now())
	published := c.published()
	c.mu.Unlock()
	return reconcile.Result{RequeueAfter: wait}, c.publish(ctx, published)
}

// adjust begins and ends receptions, and returns after which time it is to be called again; zero means never.
func (c *Collector) adjust(captures []v1alpha1.PacketCapture, now time.Time) time.Duration {
	if c.ctx == nil || c.closed {
		return 0 // run wakes us, or has ended
	}
	var wait time.Duration
	soon := func(d time.Duration) {
		if wait == 0 || d < wait {
			wait = max(d, time.Millisecond)
		}
	}
	wanted := map[string]bool{}
	for i := range captures {
		of := &captures[i]
		uid := string(of.UID)
		if of.Spec.Sink.Collector != c.config.Pool || of.DeletionTimestamp != nil {
			continue
		}
		if _, end := of.Window(); !end.IsZero() {
			left := end.Add(Linger).Sub(now)
			if left <= 0 {
				continue
			}
			soon(left)
		}
		wanted[uid] = true
		r := c.receptions[uid]
		if r != nil && r.encap != of.Spec.Encap {
			r.cancel() // and lookAgain, when it has ended
		}
		if r != nil && r.done && r.generation == of.Generation && now.Before(r.again) {
			soon(r.again.Sub(now))
		} else if r == nil || r.done {
			c.begin(of)
		}
	}
	for uid, r := range c.receptions {
		switch {
		case wanted[uid]:
		case r.done && c.hasFiles(r):
			soon(time.Second)
		case r.done:
			delete(c.receptions, uid)
		case r.again.IsZero(): // copies may be on their way
			r.again = now.Add(Linger)
			soon(Linger)
		case !now.Before(r.again):
			r.cancel() // and lookAgain, when it has ended
		default:
			soon(r.again.Sub(now))
		}
	}
	return wait
}

// hasFiles reports whether files of a reception have yet to be taken away.
func (c *Collector) hasFiles(r *reception) bool {
	files, _ := filepath.Glob(filepath.Join(c.config.Dir, r.folder, c.config.Name+"_*.pcapng")) // the pattern is right
	return c.config.Upload != nil && len(files) > 0
}

// begin begins the reception of a capture.
func (c *Collector) begin(of *v1alpha1.PacketCapture) {
	ctx, cancel := context.WithCancel(c.ctx)
	r := &reception{folder: of.Folder(), generation: of.Generation, encap: of.Spec.Encap, cancel: cancel}
	c.receptions[string(of.UID)] = r
	config := c.receiveConfig(ctx, of)
	config.Ready = func(at receive.Readiness) {
		c.mu.Lock()
		r.port = at.At.Port()
		c.mu.Unlock()
		c.lookAgain()
	}
	c.running.Go(func() {
		defer cancel()
		err := os.MkdirAll(filepath.Dir(config.Output.Path), 0o700)
		var counters receive.Counters
		if err == nil {
			counters, err = receive.Run(ctx, config)
		}
		c.log.Info("the reception has ended", "capture", of.Name, "received", counters, "err", err)
		c.mu.Lock()
		r.done, r.port, r.err, r.again = true, 0, err, time.Now().Add(retryInterval)
		c.mu.Unlock()
		c.lookAgain()
	})
}

func (c *Collector) receiveConfig(ctx context.Context, of *v1alpha1.PacketCapture) receive.Config {
	return receive.Config{
		Listen: netip.AddrPortFrom(c.config.Address, c.config.FirstPort), Ports: c.config.Ports,
		Encap: wire.Encap(of.Spec.Encap), Buffer: c.config.Buffer,
		Output: receive.Output{
			Path:       filepath.Join(c.config.Dir, of.Folder(), c.config.Name+".pcapng"),
			RotateSize: c.config.RotateSize, RotateInterval: c.config.RotateInterval, Files: c.config.Files,
			Series:  true,
			Comment: fmt.Sprintf("PacketCapture %s, %s, collector %s", of.Name, of.UID, c.config.Name),
		},
		Describe: func(s receive.Sender) receive.Description { return c.describe(ctx, of, s) },
	}
}

// underlayIndex indexes PacketCaptureNodes by the source address of their copies.
const underlayIndex = "underlayIP"

// describe names the sender of copies, as its node reports it.
func (c *Collector) describe(ctx context.Context, of *v1alpha1.PacketCapture, s receive.Sender) receive.Description {
	var nodes v1alpha1.PacketCaptureNodeList
	err := c.client.List(ctx, &nodes, client.MatchingFields{underlayIndex: s.Node.String()})
	if err != nil {
		return receive.Description{}
	}
	for _, n := range nodes.Items {
		if n.CaptureUID != string(of.UID) {
			continue
		}
		for _, i := range n.Status.Interfaces {
			if wire.Label(i.Label) == s.Label.WithoutReason() {
				return describe(of, n.NodeName, i, s.Label)
			}
		}
	}
	return receive.Description{}
}

// describe describes the copies of an interface that have a label.
func describe(of *v1alpha1.PacketCapture, node string, i v1alpha1.NodeInterface, l wire.Label) receive.Description {
	name, direction := node+"/"+i.Name, "direction "+i.Direction
	if _, reason, is := l.Dropped(); is {
		name += receive.DropInfix + reason.String()
		direction = "dropped: " + reason.String()
	} else if i.Direction == "tx" {
		name += "-tx"
	}
	comment := fmt.Sprintf("capture %s, node %s, interface %s, %s", of.Name, node, i.Name, direction)
	if i.VNI != 0 {
		comment += fmt.Sprintf(", VNI %d", i.VNI)
	}
	if tenant := of.Labels[v1alpha1.LabelTenant]; tenant != "" {
		comment += ", tenant " + tenant
	}
	return receive.Description{Name: name, Comment: comment}
}

// published returns the receptions as the PacketCollector shows them.
func (c *Collector) published() (all []v1alpha1.CollectedCapture) {
	for uid, r := range c.receptions {
		shown := v1alpha1.CollectedCapture{UID: uid, Port: int32(r.port)}
		switch {
		case r.err != nil:
			shown.Error = r.err.Error()
		case r.port == 0 && !r.done:
			continue
		}
		all = append(all, shown)
	}
	slices.SortFunc(all, func(a, b v1alpha1.CollectedCapture) int { return cmp.Compare(a.UID, b.UID) })
	return all
}

// publish writes the PacketCollector if it says something new.
func (c *Collector) publish(ctx context.Context, captures []v1alpha1.CollectedCapture) error {
	want := v1alpha1.PacketCollector{
		ObjectMeta: metav1.ObjectMeta{Name: c.config.Name, Namespace: c.config.Namespace},
		Pool:       c.config.Pool, Address: c.config.Address.String(), Captures: captures, Clock: clock.Now(),
	}
	if c.config.Owner != nil {
		want.OwnerReferences = []metav1.OwnerReference{*c.config.Owner}
	}
	var is v1alpha1.PacketCollector
	err := c.client.Get(ctx, client.ObjectKeyFromObject(&want), &is)
	switch {
	case apierrors.IsNotFound(err):
		return c.client.Create(ctx, &want)
	case err != nil:
		return err
	case is.Pool == want.Pool && is.Address == want.Address && equality.Semantic.DeepEqual(is.Captures, want.Captures):
		return nil
	}
	want.ResourceVersion = is.ResourceVersion
	return c.client.Update(ctx, &want)
}
