// SPDX-License-Identifier: Apache-2.0

// Package summary sums up in each PacketCapture's status what the nodes report, and keeps a deleted one until its nodes
// have ended their parts. Captures run without it: then only the summary is old.
package summary

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"dpservice/capture/filter"
	"dpservice/capture/spec"
	"dpservice/tools/fleet/api/v1alpha1"
)

// Finalizer keeps a deleted PacketCapture until its nodes have ended their parts.
const Finalizer = "dpservice.dev/nodes"

const (
	// interval is how often a status is written at most, and countersInterval if nothing but its counters has changed.
	interval         = 3 * time.Second
	countersInterval = 15 * time.Second
	// MaxProblems is how many errors of nodes a status shows.
	MaxProblems = 10
)

// Patience is how long a deleted capture waits for its nodes. A node that is away then ends its part when it is back.
const Patience = 2 * time.Minute

// Summary sums up PacketCaptures.
type Summary struct {
	client   client.Client
	patience time.Duration
	now      func() time.Time
	seen     map[client.ObjectKey]time.Time // when a capture was last summed up
	written  map[client.ObjectKey]time.Time
}

// Add has a manager sum up PacketCaptures, and wait so long for the nodes of deleted ones.
func Add(m manager.Manager, patience time.Duration) error {
	s := &Summary{
		client: m.GetClient(), patience: patience, now: time.Now, seen: map[client.ObjectKey]time.Time{},
		written: map[client.ObjectKey]time.Time{},
	}
	deleted := predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetDeletionTimestamp() != nil })
	return builder.ControllerManagedBy(m).Named("summary").
		For(&v1alpha1.PacketCapture{}, builder.WithPredicates(
			predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, deleted))).
		Watches(&v1alpha1.PacketCaptureNode{}, handler.EnqueueRequestsFromMapFunc(captureOf)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, SkipNameValidation: new(true)}).
		Complete(s)
}

func captureOf(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: o.(*v1alpha1.PacketCaptureNode).CaptureName}}}
}

// Reconcile sums up one PacketCapture. With many nodes its reports change all the time, so it does not look at each.
func (s *Summary) Reconcile(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
	var c v1alpha1.PacketCapture
	if err := s.client.Get(ctx, r.NamespacedName, &c); err != nil {
		delete(s.seen, r.NamespacedName)
		delete(s.written, r.NamespacedName)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	isNew := c.Status.ObservedGeneration != c.Generation
	if wait := s.seen[r.NamespacedName].Add(interval).Sub(s.now()); wait > 0 && !isNew && c.DeletionTimestamp == nil {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	s.seen[r.NamespacedName] = s.now()
	nodes, err := s.nodes(ctx, &c)
	if err != nil {
		return reconcile.Result{}, err
	}
	if c.DeletionTimestamp != nil {
		return s.end(ctx, &c, nodes)
	}
	if controllerutil.AddFinalizer(&c, Finalizer) {
		if err := s.client.Update(ctx, &c); err != nil {
			return reconcile.Result{}, err
		}
	}
	wait, err := s.write(ctx, &c, sum(&c, nodes, s.now()))
	return reconcile.Result{RequeueAfter: wait}, err
}

// nodes returns the reports of a capture's nodes, by name.
func (s *Summary) nodes(ctx context.Context, c *v1alpha1.PacketCapture) ([]v1alpha1.PacketCaptureNode, error) {
	var list v1alpha1.PacketCaptureNodeList
	if err := s.client.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelCapture: c.Name}); err != nil {
		return nil, err
	}
	isOther := func(n v1alpha1.PacketCaptureNode) bool { return n.CaptureUID != string(c.UID) }
	nodes := slices.DeleteFunc(list.Items, isOther)
	slices.SortFunc(nodes, func(a, b v1alpha1.PacketCaptureNode) int { return cmp.Compare(a.NodeName, b.NodeName) })
	return nodes, nil
}

// end lets a deleted capture go when its nodes have ended their parts, or have had time enough.
func (s *Summary) end(ctx context.Context, c *v1alpha1.PacketCapture,
	nodes []v1alpha1.PacketCaptureNode) (reconcile.Result, error) {
	left := c.DeletionTimestamp.Add(s.patience).Sub(s.now())
	if len(nodes) > 0 && left > 0 {
		status := sum(c, nodes, s.now())
		status.State = v1alpha1.Ending
		wait, err := s.write(ctx, c, status)
		if wait == 0 || left < wait {
			wait = left
		}
		return reconcile.Result{RequeueAfter: wait}, err
	}
	for i := range nodes {
		if err := client.IgnoreNotFound(s.client.Delete(ctx, &nodes[i])); err != nil {
			return reconcile.Result{}, err
		}
	}
	if controllerutil.RemoveFinalizer(c, Finalizer) {
		return reconcile.Result{}, client.IgnoreNotFound(s.client.Update(ctx, c))
	}
	return reconcile.Result{}, nil
}

// write writes a status if it says something new. If it is too early for that, it returns how long to wait.
func (s *Summary) write(ctx context.Context, c *v1alpha1.PacketCapture,
	status v1alpha1.PacketCaptureStatus) (time.Duration, error) {
	if equality.Semantic.DeepEqual(c.Status, status) {
		return 0, nil
	}
	old := c.Status
	old.Packets, old.Bytes = status.Packets, status.Bytes
	key := client.ObjectKeyFromObject(c)
	if equality.Semantic.DeepEqual(old, status) {
		if wait := s.written[key].Add(countersInterval).Sub(s.now()); wait > 0 {
			return wait, nil
		}
	}
	c.Status = status
	if err := s.client.Status().Update(ctx, c); err != nil {
		return 0, client.IgnoreNotFound(err)
	}
	s.written[key] = s.now()
	return 0, nil
}

// sum returns what the nodes' reports come to.
func sum(c *v1alpha1.PacketCapture, nodes []v1alpha1.PacketCaptureNode, now time.Time) v1alpha1.PacketCaptureStatus {
	status := v1alpha1.PacketCaptureStatus{ObservedGeneration: c.Generation, Conditions: slices.Clone(c.Status.Conditions)}
	for _, n := range nodes {
		status.Nodes.Total++
		switch n.Status.State {
		case v1alpha1.Active:
			status.Nodes.Active++
		case v1alpha1.Ended:
			status.Nodes.Ended++
		case v1alpha1.Failed:
			status.Nodes.Failed++
		default:
			status.Nodes.Pending++
		}
		status.Packets += n.Status.Packets
		status.Bytes += n.Status.Bytes
		if n.Status.Error != "" && len(status.Problems) < MaxProblems {
			status.Problems = append(status.Problems, v1alpha1.Problem{Node: n.NodeName, Error: n.Status.Error})
		}
	}
	wrong := filterError(&c.Spec)
	status.State = state(c, status.Nodes, wrong, now)
	setConditions(c, &status, wrong, now)
	return status
}

// state returns the state of a capture as a whole.
func state(c *v1alpha1.PacketCapture, n v1alpha1.NodeCounts, wrong error, now time.Time) v1alpha1.State {
	_, end := c.Window()
	over := !end.IsZero() && !now.Before(end)
	switch {
	case wrong != nil:
		return v1alpha1.Failed
	case n.Active > 0:
		return v1alpha1.Active
	case n.Total > 0 && n.Ended == n.Total, over:
		return v1alpha1.Ended
	case n.Failed > 0 && n.Pending == 0:
		return v1alpha1.Failed
	}
	return v1alpha1.Pending
}

func setConditions(c *v1alpha1.PacketCapture, status *v1alpha1.PacketCaptureStatus, wrong error, now time.Time) {
	n := status.Nodes
	set := func(kind string, is bool, reason, message string) {
		value := metav1.ConditionFalse
		if is {
			value = metav1.ConditionTrue
		}
		apimeta.SetStatusCondition(&status.Conditions, metav1.Condition{
			Type: kind, Status: value, Reason: reason, Message: message, ObservedGeneration: c.Generation,
			LastTransitionTime: metav1.NewTime(now).Rfc3339Copy(),
		})
	}
	set(v1alpha1.ConditionActive, n.Active > 0, string(status.State), fmt.Sprintf("%d of %d nodes capture", n.Active, n.Total))
	set(v1alpha1.ConditionComplete, status.State == v1alpha1.Ended, string(status.State),
		fmt.Sprintf("the capture has ended on %d of %d nodes", n.Ended, n.Total))
	switch {
	case wrong != nil:
		set(v1alpha1.ConditionDegraded, true, "InvalidFilter", wrong.Error())
	case len(status.Problems) > 0:
		first := status.Problems[0]
		set(v1alpha1.ConditionDegraded, true, "NodeErrors", fmt.Sprintf("%d of %d nodes have failed; %s: %s", n.Failed, n.Total,
			first.Node, first.Error))
	default:
		set(v1alpha1.ConditionDegraded, false, "NoErrors", "no node has an error")
	}
}

// filterError compiles a capture's filter, so that a wrong one is known even if no node has something to capture.
func filterError(s *v1alpha1.PacketCaptureSpec) error {
	link := filter.Ethernet
	if t := s.Targets; t.PF0 && t.VNI == nil && !t.All && len(t.Interfaces) == 0 {
		link = filter.IP
	}
	_, err := filter.Compile(s.Filter, link, spec.MaxRules)
	return err
}
