// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// fleetManifests are what kustomize makes of fleet/.
type fleetManifests struct {
	daemonSet appsv1.DaemonSet
	accounts  map[string]bool
	roles     map[string]bool
	subjects  []rbacv1.Subject
	refs      []rbacv1.RoleRef
	pods      []corev1.PodTemplateSpec
}

// add decodes an object strictly. The definitions of resources are for tools/fleet to test, on an API server.
func (m *fleetManifests) add(t *testing.T, kind string, text []byte) {
	t.Helper()
	into := map[string]any{
		"Namespace": &corev1.Namespace{}, "ConfigMap": &corev1.ConfigMap{}, "ServiceAccount": &corev1.ServiceAccount{},
		"DaemonSet": &m.daemonSet, "Deployment": &appsv1.Deployment{}, "Role": &rbacv1.Role{},
		"ClusterRole": &rbacv1.ClusterRole{}, "RoleBinding": &rbacv1.RoleBinding{},
		"ClusterRoleBinding": &rbacv1.ClusterRoleBinding{}, "CustomResourceDefinition": &map[string]any{},
	}[kind]
	require.NotNil(t, into, kind)
	require.NoError(t, yaml.UnmarshalStrict(text, into), kind)
	switch o := into.(type) {
	case *corev1.ServiceAccount:
		m.accounts[o.Namespace+"/"+o.Name] = true
	case *rbacv1.Role:
		m.roles["Role "+o.Name] = true
	case *rbacv1.ClusterRole:
		m.roles["ClusterRole "+o.Name] = true
	case *rbacv1.RoleBinding:
		m.subjects, m.refs = append(m.subjects, o.Subjects...), append(m.refs, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		m.subjects, m.refs = append(m.subjects, o.Subjects...), append(m.refs, o.RoleRef)
	case *appsv1.DaemonSet:
		m.pods = append(m.pods, o.Spec.Template)
	case *appsv1.Deployment:
		assert.Equal(t, o.Spec.Selector.MatchLabels, o.Spec.Template.Labels, o.Name)
		m.pods = append(m.pods, o.Spec.Template)
	}
}

func loadFleet(t *testing.T) fleetManifests {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "fleet")
	require.NoError(t, err)
	m := fleetManifests{accounts: map[string]bool{}, roles: map[string]bool{}}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		require.NoError(t, err)
		m.add(t, r.GetKind(), text)
	}
	return m
}

// What the manifests of captures over all nodes name is there.
func TestFleetReferences(t *testing.T) {
	m := loadFleet(t)
	for _, s := range m.subjects {
		assert.True(t, m.accounts[s.Namespace+"/"+s.Name], s.Name)
	}
	for _, r := range m.refs {
		assert.True(t, m.roles[r.Kind+" "+r.Name], r.Name)
	}
	assert.Len(t, m.refs, len(m.roles)-1, "all are bound, but that of people")
	require.Len(t, m.pods, 3)
	for _, p := range m.pods {
		assert.True(t, m.accounts["dpservice/"+p.Spec.ServiceAccountName], p.Spec.ServiceAccountName)
	}
}

// The agent is beside dpservice, which stays as it is, and has none of its rights.
func TestFleetPrivileges(t *testing.T) {
	spec := loadFleet(t).daemonSet.Spec.Template.Spec
	require.Len(t, spec.Containers, 2)
	alone := load(t).daemonSet.Spec.Template.Spec.Containers[0]
	for _, c := range spec.Containers {
		if c.Name == alone.Name {
			assert.Equal(t, alone, c)
			continue
		}
		assert.Equal(t, "agent", c.Name)
		assert.True(t, *c.SecurityContext.RunAsNonRoot)
		assert.Empty(t, c.SecurityContext.Capabilities.Add)
		assert.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
		assert.Equal(t, c.Resources.Requests, c.Resources.Limits, "or the pod's CPUs are not its alone")
	}
	assert.False(t, *spec.AutomountServiceAccountToken, "the token is the agent's alone")
}
