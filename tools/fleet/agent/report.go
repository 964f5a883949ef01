// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"dpservice/tools/fleet/api/v1alpha1"
)

const (
	// stateInterval is how often a report is written at most, and countersInterval if nothing but its counters has
	// changed.
	stateInterval    = 2 * time.Second
	countersInterval = 30 * time.Second
)

// Reports are where PacketCaptureNodes are kept: the API server. Errors are of its kinds.
type Reports interface {
	// List returns all that have this value of v1alpha1.LabelNode. It may miss what was written a moment ago.
	List(ctx context.Context, label string) ([]v1alpha1.PacketCaptureNode, error)
	// Get returns the newest.
	Get(ctx context.Context, name string) (*v1alpha1.PacketCaptureNode, error)
	Create(ctx context.Context, r *v1alpha1.PacketCaptureNode) error
	Update(ctx context.Context, r *v1alpha1.PacketCaptureNode) error
	Delete(ctx context.Context, r *v1alpha1.PacketCaptureNode) error
}

// reporter writes a node's reports when they change. Nobody else does, so it knows what it has written. It reads all
// only at the start: to find a node's reports the API server looks at those of all nodes. After a failure it reads the
// one.
type reporter struct {
	node    string
	reports Reports
	known   map[string]*v1alpha1.PacketCaptureNode // by the captures' UIDs; nil: not loaded
	written map[string]time.Time                   // when the last write was; before the first, when it was put off
	unsure  map[string]string                      // the names of those of which a write has failed, or may have
}

// load reads the reports that the node has written before, unless they are known.
func (r *reporter) load(ctx context.Context) error {
	if r.known != nil {
		return nil
	}
	all, err := r.reports.List(ctx, labelValue(r.node))
	if err != nil {
		return err
	}
	r.known, r.written = map[string]*v1alpha1.PacketCaptureNode{}, map[string]time.Time{}
	r.unsure = map[string]string{}
	for i := range all {
		if all[i].NodeName == r.node {
			r.known[all[i].CaptureUID] = &all[i]
		}
	}
	return nil
}

// status returns a copy of what was reported of a capture; nil if nothing was.
func (r *reporter) status(uid string) *v1alpha1.NodeStatus {
	if known := r.known[uid]; known != nil {
		return known.Status.DeepCopy()
	}
	return nil
}

// write writes a report if it says something new. If it is too early for that, it returns when it is due.
func (r *reporter) write(ctx context.Context, c *v1alpha1.PacketCapture, st v1alpha1.NodeStatus,
	now time.Time) (due time.Time, err error) {
	uid := string(c.UID)
	if err := r.reload(ctx, uid); err != nil {
		return time.Time{}, err
	}
	st.UpdatedAt = metav1.NewTime(now)
	fresh := newReport(c, r.node)
	put := r.reports.Create
	var interval time.Duration
	if known := r.known[uid]; known != nil {
		if interval = compare(known.Status, st); interval == 0 {
			return time.Time{}, nil
		}
		fresh, put = known.DeepCopy(), r.reports.Update
	} else if st.Reason == reasonNoCollector {
		// A collector needs a moment. Then the first report says already what is captured, by names that the collector needs.
		if _, ok := r.written[uid]; !ok {
			r.written[uid] = now
		}
		interval = stateInterval
	}
	if due := r.written[uid].Add(interval); now.Before(due) {
		return due, nil
	}
	fresh.Status = st
	if err := put(ctx, fresh); err != nil {
		r.unsure[uid] = fresh.Name
		return time.Time{}, fmt.Errorf("writing the report: %w", err)
	}
	r.known[uid], r.written[uid] = fresh, now
	return time.Time{}, nil
}

// reload reads the report of a capture again if a write of it may have failed. One of an older capture of the same name
// goes.
func (r *reporter) reload(ctx context.Context, uid string) error {
	name, ok := r.unsure[uid]
	if !ok {
		return nil
	}
	is, err := r.reports.Get(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		delete(r.known, uid)
	case err != nil:
		return fmt.Errorf("reading the report: %w", err)
	case is.CaptureUID == uid:
		r.known[uid] = is
	default:
		if err := r.reports.Delete(ctx, is); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing the report of an older capture: %w", err)
		}
		delete(r.known, uid)
	}
	delete(r.unsure, uid)
	return nil
}

// compare returns how long after the last report the next one may be written; zero if that has nothing new.
func compare(old, fresh v1alpha1.NodeStatus) time.Duration {
	withoutTimes(&old)
	withoutTimes(&fresh)
	if equality.Semantic.DeepEqual(old, fresh) {
		return 0
	}
	withoutCounters(&old)
	withoutCounters(&fresh)
	if equality.Semantic.DeepEqual(old, fresh) {
		return countersInterval
	}
	return stateInterval
}

func withoutTimes(s *v1alpha1.NodeStatus) { s.UpdatedAt, s.Clock = metav1.Time{}, nil }

func withoutCounters(s *v1alpha1.NodeStatus) {
	s.Packets, s.Bytes = 0, 0
	interfaces := make([]v1alpha1.NodeInterface, len(s.Interfaces))
	for i, of := range s.Interfaces {
		of.Packets, of.Bytes = 0, 0
		interfaces[i] = of
	}
	s.Interfaces = interfaces
}

// remove removes the report of a capture, if there is one.
func (r *reporter) remove(ctx context.Context, uid string) error {
	if err := r.reload(ctx, uid); err != nil {
		return err
	}
	if known := r.known[uid]; known != nil {
		if err := r.reports.Delete(ctx, known); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing the report: %w", err)
		}
	}
	delete(r.known, uid)
	delete(r.written, uid)
	return nil
}

// removeAll removes the reports of captures that are gone.
func (r *reporter) removeAll(ctx context.Context, isGone func(uid string) bool) error {
	for _, uid := range slices.Concat(slices.Collect(maps.Keys(r.known)), slices.Collect(maps.Keys(r.unsure)),
		slices.Collect(maps.Keys(r.written))) {
		if isGone(uid) {
			if err := r.remove(ctx, uid); err != nil {
				return err
			}
		}
	}
	return nil
}

// newReport returns a report without a status. Its owner is the capture, so that it goes with it also if the node does
// not come back.
func newReport(c *v1alpha1.PacketCapture, node string) *v1alpha1.PacketCaptureNode {
	return &v1alpha1.PacketCaptureNode{
		ObjectMeta: metav1.ObjectMeta{
			Name:   c.Name + "." + node,
			Labels: map[string]string{v1alpha1.LabelCapture: c.Name, v1alpha1.LabelNode: labelValue(node)},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "PacketCapture", Name: c.Name, UID: c.UID,
			}},
		},
		CaptureName: c.Name, CaptureUID: string(c.UID), NodeName: node,
	}
}

// labelValue returns a node's name as the value of a label, which is shorter.
func labelValue(node string) string {
	const most = 63
	return strings.TrimRight(node[:min(len(node), most)], "-.")
}
