// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// manifests are what kustomize makes of kustomize/.
type manifests struct {
	namespace     corev1.Namespace
	configuration corev1.ConfigMap
	daemonSet     appsv1.DaemonSet
}

// decode decodes an object into the type that Kubernetes has for its kind. A field that this lacks is an error, as is a
// kind that does not belong here.
func (m *manifests) decode(kind string, text []byte) error {
	into := map[string]any{"Namespace": &m.namespace, "ConfigMap": &m.configuration, "DaemonSet": &m.daemonSet}[kind]
	if into == nil {
		return fmt.Errorf("kind %s: not one of dpservice's", kind)
	}
	return yaml.UnmarshalStrict(text, into)
}

func load(t *testing.T) manifests {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "kustomize")
	require.NoError(t, err)
	var m manifests
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		require.NoError(t, err)
		require.NoError(t, m.decode(r.GetKind(), text), "%s", r.CurId())
	}
	require.Equal(t, 3, resources.Size())
	return m
}

// The API server only warns of a field that it does not know, and drops it.
func TestDecodingIsStrict(t *testing.T) {
	daemonSet := load(t).daemonSet
	text, err := yaml.Marshal(daemonSet)
	require.NoError(t, err)
	wrong := strings.Replace(string(text), "hostNetwork:", "hostNetworks:", 1)
	require.NotEqual(t, wrong, string(text))
	assert.ErrorContains(t, new(manifests).decode("DaemonSet", []byte(wrong)), "hostNetworks")
	assert.ErrorContains(t, new(manifests).decode("Deployment", text), "Deployment")
}

// What the manifests name is there, in the namespace.
func TestReferences(t *testing.T) {
	m := load(t)
	pod := m.daemonSet.Spec.Template
	assert.Equal(t, m.daemonSet.Spec.Selector.MatchLabels, pod.Labels)
	assert.Equal(t, m.namespace.Name, m.daemonSet.Namespace)
	assert.Equal(t, m.namespace.Name, m.configuration.Namespace)
	require.Len(t, pod.Spec.Containers, 1)

	volumes := map[string]corev1.VolumeSource{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = v.VolumeSource
	}
	require.NotNil(t, volumes["configuration"].ConfigMap)
	assert.Equal(t, m.configuration.Name, volumes["configuration"].ConfigMap.Name)
	assert.Contains(t, m.configuration.Data, "dpservice.yaml")
	var mounted []string
	for _, mount := range pod.Spec.Containers[0].VolumeMounts {
		assert.Contains(t, volumes, mount.Name)
		mounted = append(mounted, mount.MountPath)
	}
	assert.Len(t, mounted, len(volumes))
}

// settings is the part of dpservice's configuration that has to fit the DaemonSet. That dpservice takes the file is a test
// of dpservice/config.
type settings struct {
	EAL    []string `json:"eal"`
	Socket string   `json:"socket"`
	State  string   `json:"state"`
}

func (s settings) argument(t *testing.T, name string) string {
	t.Helper()
	i := slices.Index(s.EAL, name)
	require.NotEqual(t, -1, i, "eal has no %s", name)
	require.Less(t, i+1, len(s.EAL))
	return s.EAL[i+1]
}

func TestTheConfigurationFitsThePod(t *testing.T) {
	m := load(t)
	var s settings
	require.NoError(t, yaml.Unmarshal([]byte(m.configuration.Data["dpservice.yaml"]), &s))
	spec := m.daemonSet.Spec.Template.Spec
	container := spec.Containers[0]

	hostPaths := map[string]string{}
	for _, mount := range container.VolumeMounts {
		for _, v := range spec.Volumes {
			if v.Name == mount.Name && v.HostPath != nil {
				hostPaths[mount.MountPath] = v.HostPath.Path
			}
		}
	}
	assert.Equal(t, path.Dir(s.Socket), hostPaths[path.Dir(s.Socket)], "the socket is not at the same place on the host")
	assert.Equal(t, s.State, hostPaths[s.State], "the state does not outlive the pod")

	megabytes, err := strconv.ParseInt(s.argument(t, "-m"), 10, 64)
	require.NoError(t, err)
	pages := container.Resources.Limits["hugepages-2Mi"]
	assert.GreaterOrEqual(t, pages.Value(), megabytes<<20, "hugepages")
	cpus := container.Resources.Limits[corev1.ResourceCPU]
	assert.EqualValues(t, len(strings.Split(s.argument(t, "-l"), ",")), cpus.Value(), "a CPU for each lcore")
	assert.Equal(t, container.Resources.Requests[corev1.ResourceCPU], cpus, "or the CPUs are not the pod's alone")
}

// unitCapabilities are those that the systemd unit gives to dpservice.
func unitCapabilities(t *testing.T) (found []corev1.Capability) {
	t.Helper()
	unit, err := os.ReadFile("../tools/package/files/dpservice.service")
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindSubmatch(unit)
	require.NotNil(t, line)
	for _, name := range strings.Fields(string(line[1])) {
		found = append(found, corev1.Capability(strings.TrimPrefix(name, "CAP_")))
	}
	return found
}

// The pod may do what the unit may, and the one thing more that daemonset.yaml explains.
func TestPrivileges(t *testing.T) {
	spec := load(t).daemonSet.Spec.Template.Spec
	security := spec.Containers[0].SecurityContext
	assert.Equal(t, []corev1.Capability{"ALL"}, security.Capabilities.Drop)
	assert.ElementsMatch(t, append(unitCapabilities(t), "SYS_NICE"), security.Capabilities.Add)
	assert.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, security.SeccompProfile.Type)
	assert.False(t, *security.Privileged)
	assert.False(t, *security.AllowPrivilegeEscalation)
	assert.True(t, *security.ReadOnlyRootFilesystem)
	assert.False(t, spec.HostPID)
	assert.False(t, spec.HostIPC)
	assert.False(t, *spec.AutomountServiceAccountToken)
	assert.False(t, *spec.EnableServiceLinks, "a service's variables would be taken for configuration")
}

func TestProbes(t *testing.T) {
	container := load(t).daemonSet.Spec.Template.Spec.Containers[0]
	probes := map[string]*corev1.Probe{
		"startup": container.StartupProbe, "liveness": container.LivenessProbe, "readiness": container.ReadinessProbe,
	}
	for name, probe := range probes {
		require.NotNil(t, probe, name)
		require.NotNil(t, probe.Exec, name)
		assert.Equal(t, "/usr/bin/dpctl", probe.Exec.Command[0], name)
		assert.Greater(t, probe.TimeoutSeconds, int32(5), "%s: dpctl says itself what it waited for", name)
	}
	start := container.StartupProbe
	assert.GreaterOrEqual(t, start.PeriodSeconds*start.FailureThreshold, int32(300), "the unit's TimeoutStartSec")
}
