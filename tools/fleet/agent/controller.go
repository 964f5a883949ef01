// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"dpservice/tools/fleet/api/v1alpha1"
)

// errorFirst and errorMost bound how long it takes until a Sync that has failed is tried again.
const (
	errorFirst = time.Second
	errorMost  = time.Minute
)

// Cluster has the Resources and Reports of a cluster.
type Cluster struct {
	Client    client.Client
	Namespace string // of the collectors
	Node      string
	// WithLabels is whether the node's labels are read, which takes a cluster that has nodes.
	WithLabels bool
}

// Captures implements Resources.
func (c Cluster) Captures(ctx context.Context) ([]v1alpha1.PacketCapture, error) {
	var list v1alpha1.PacketCaptureList
	err := c.Client.List(ctx, &list)
	return list.Items, err
}

// Collectors implements Resources.
func (c Cluster) Collectors(ctx context.Context) ([]v1alpha1.PacketCollector, error) {
	var list v1alpha1.PacketCollectorList
	err := c.Client.List(ctx, &list, client.InNamespace(c.Namespace))
	return list.Items, err
}

// Labels implements Resources.
func (c Cluster) Labels(ctx context.Context) (map[string]string, error) {
	if !c.WithLabels {
		return nil, nil
	}
	node := nodeMetadata()
	err := c.Client.Get(ctx, client.ObjectKey{Name: c.Node}, node)
	return node.Labels, err
}

// nodeMetadata is all that is read of a node.
func nodeMetadata() *metav1.PartialObjectMetadata {
	var m metav1.PartialObjectMetadata
	m.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	return &m
}

// List implements Reports.
func (c Cluster) List(ctx context.Context, label string) ([]v1alpha1.PacketCaptureNode, error) {
	var list v1alpha1.PacketCaptureNodeList
	// Version 0 has the API server answer from its memory, as not even a thousand agents at once can make etcd do.
	err := c.Client.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelNode: label},
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}})
	return list.Items, err
}

// Get implements Reports.
func (c Cluster) Get(ctx context.Context, name string) (*v1alpha1.PacketCaptureNode, error) {
	var r v1alpha1.PacketCaptureNode
	err := c.Client.Get(ctx, client.ObjectKey{Name: name}, &r)
	return &r, err
}

// Create implements Reports.
func (c Cluster) Create(ctx context.Context, r *v1alpha1.PacketCaptureNode) error {
	return c.Client.Create(ctx, r)
}

// Update implements Reports.
func (c Cluster) Update(ctx context.Context, r *v1alpha1.PacketCaptureNode) error {
	return c.Client.Update(ctx, r)
}

// Delete implements Reports.
func (c Cluster) Delete(ctx context.Context, r *v1alpha1.PacketCaptureNode) error {
	return c.Client.Delete(ctx, r)
}

// ClientOptions returns those of a manager's client: nobody but the agent writes its reports, so they are not watched.
func ClientOptions() client.Options {
	return client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&v1alpha1.PacketCaptureNode{}}}}
}

// Add has a manager run an agent.
func Add(m manager.Manager, a *Agent, c Cluster) error {
	work := controller.Options{
		Reconciler:         reconcile.Func(a.reconcile),
		RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](errorFirst, errorMost),
		SkipNameValidation: new(true), // a test has many agents
		NeedLeaderElection: new(false),
	}
	made, err := controller.New("agent", m, work)
	if err != nil {
		return err
	}
	// One round is for all captures, whatever has changed.
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
	// Whoever sums up the nodes' reports writes it into the status, which is no news to an agent.
	spec := predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, deletionPredicate())
	sources := []source.Source{
		source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			q.Add(everything) // sessions of before may be of captures that are gone
			return nil
		}),
		source.Kind[client.Object](m.GetCache(), &v1alpha1.PacketCapture{}, all, spec),
		source.Kind[client.Object](m.GetCache(), &v1alpha1.PacketCollector{}, all, predicate.GenerationChangedPredicate{}),
	}
	if c.WithLabels {
		sources = append(sources, source.Kind[client.Object](m.GetCache(), nodeMetadata(), all,
			predicate.LabelChangedPredicate{}))
	}
	for _, s := range sources {
		if err := made.Watch(s); err != nil {
			return err
		}
	}
	return nil
}

// everything is the only request: there is one queue entry at most.
var everything = reconcile.Request{}

func deletionPredicate() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetDeletionTimestamp() != nil })
}

func (a *Agent) reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	wait, err := a.Sync(ctx)
	return reconcile.Result{RequeueAfter: wait}, err
}
