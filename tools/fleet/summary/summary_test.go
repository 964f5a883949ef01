// SPDX-License-Identifier: Apache-2.0

package summary

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"dpservice/tools/fleet/api/v1alpha1"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func reports(states ...v1alpha1.State) (all []v1alpha1.PacketCaptureNode) {
	for i, s := range states {
		n := v1alpha1.PacketCaptureNode{NodeName: fmt.Sprintf("hv%d", i)}
		n.Status.State, n.Status.Packets, n.Status.Bytes = s, 10, 1000
		if s == v1alpha1.Failed {
			n.Status.Error = "the driver refused a rule"
		}
		all = append(all, n)
	}
	return all
}

func TestState(t *testing.T) {
	const a, e, f, p = v1alpha1.Active, v1alpha1.Ended, v1alpha1.Failed, v1alpha1.Pending
	for _, c := range []struct {
		nodes  []v1alpha1.State
		age    time.Duration // of a capture that takes an hour
		filter string
		want   v1alpha1.State
	}{
		{nil, 0, "", p},
		{[]v1alpha1.State{a, p, f, e}, 0, "", a},
		{[]v1alpha1.State{e, e}, 0, "", e},
		{[]v1alpha1.State{e, p}, 0, "", p},
		{[]v1alpha1.State{f, e}, 0, "", f},
		{[]v1alpha1.State{f, p}, 0, "", p},
		{[]v1alpha1.State{a, e}, 2 * time.Hour, "", a}, // which does not know it yet
		{[]v1alpha1.State{f}, 2 * time.Hour, "", e},
		{nil, 2 * time.Hour, "", e},
		{[]v1alpha1.State{a}, 0, "udp prot 53", f},
	} {
		capture := &v1alpha1.PacketCapture{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
		capture.CreationTimestamp = metav1.NewTime(now.Add(-c.age))
		capture.Spec.Duration = &metav1.Duration{Duration: time.Hour}
		capture.Spec.Filter = c.filter
		status := sum(capture, reports(c.nodes...), now)
		assert.Equal(t, c.want, status.State, "%+v", c)
		assert.EqualValues(t, 3, status.ObservedGeneration)
		assert.EqualValues(t, 10*len(c.nodes), status.Packets)
		assert.EqualValues(t, len(c.nodes), status.Nodes.Total)
		assert.Equal(t, c.want == e, apimeta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionComplete), "%+v", c)
	}
}

// A thousand nodes with errors make a short status, and conditions change their times only with their values.
func TestConditions(t *testing.T) {
	capture := &v1alpha1.PacketCapture{}
	var states []v1alpha1.State
	for range 1000 {
		states = append(states, v1alpha1.Failed)
	}
	capture.Status = sum(capture, reports(states...), now)
	assert.Len(t, capture.Status.Problems, MaxProblems)
	degraded := apimeta.FindStatusCondition(capture.Status.Conditions, v1alpha1.ConditionDegraded)
	require.NotNil(t, degraded)
	assert.Equal(t, "1000 of 1000 nodes have failed; hv0: the driver refused a rule", degraded.Message)
	later := sum(capture, reports(states...), now.Add(time.Hour))
	assert.Equal(t, capture.Status, later)
	fine := sum(capture, reports(v1alpha1.Active), now.Add(time.Hour))
	assert.True(t, apimeta.IsStatusConditionFalse(fine.Conditions, v1alpha1.ConditionDegraded))
	assert.True(t, apimeta.IsStatusConditionTrue(fine.Conditions, v1alpha1.ConditionActive))
}
