// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real API server for tests: Kubernetes' server of custom resources on Debian's etcd. Who may do
// what is what deploy/fleet says. It has no admission or garbage collection, serves no pods, and of nodes a stand-in.
package cluster

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"dpservice/tools/fleet/api/v1alpha1"
)

// readyTimeout is how long the servers may take to answer.
const readyTimeout = time.Minute

// Cluster is an API server that serves dpservice's resources.
type Cluster struct {
	Config     *rest.Config
	Kubeconfig string // a file for kubectl
	Scheme     *runtime.Scheme
	root       string // of the repository
	rights     *rights
	nodes      *nodes
}

// Start starts a Cluster, which ends with the test.
func Start(t testing.TB) *Cluster {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs(repository(t))
	require.NoError(t, err)
	c := &Cluster{
		Kubeconfig: filepath.Join(dir, "kubeconfig"), Scheme: runtime.NewScheme(), root: root,
		rights: loadRights(t, filepath.Join(root, "deploy/fleet")), nodes: &nodes{},
	}
	require.NoError(t, v1alpha1.AddToScheme(c.Scheme))
	etcd := startEtcd(t, filepath.Join(root, "build/etcd-server/usr/bin/etcd"), dir)
	c.Config = c.startServer(t, etcd, dir)
	c.Config.QPS = -1 // the tests say how much a client may ask
	require.NoError(t, writeKubeconfig(c.Config.Host, c.Config.BearerToken, c.Kubeconfig))
	c.install(t)
	return c
}

// Client returns a client without a cache.
func (c *Cluster) Client(t testing.TB) client.Client {
	t.Helper()
	made, err := client.New(c.Config, client.Options{Scheme: c.Scheme})
	require.NoError(t, err)
	return made
}

// Kubectl runs Debian's kubectl, and returns what it has printed and whether it has succeeded.
func (c *Cluster) Kubectl(t testing.TB, stdin io.Reader, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(filepath.Join(c.root, "build/kubernetes-client/usr/bin/kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HOME="+filepath.Dir(c.Kubeconfig))
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// repository returns the path of the repository's root.
func repository(t testing.TB) string {
	t.Helper()
	for dir := "."; ; dir = filepath.Join(dir, "..") {
		_, err := os.Stat(filepath.Join(dir, "meson.build"))
		if err == nil {
			return dir
		}
		require.ErrorIs(t, err, os.ErrNotExist)
		require.Less(t, len(dir), 64, "no repository above this folder")
	}
}

// listen returns a listener on a free port, and its URL.
func listen(t testing.TB, scheme string) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l, scheme + "://" + l.Addr().String()
}

func startEtcd(t testing.TB, program, dir string) (url string) {
	t.Helper()
	clients, url := listen(t, "http")
	peers, peersURL := listen(t, "http")
	require.NoError(t, clients.Close())
	require.NoError(t, peers.Close())
	cmd := exec.Command(program, "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", url,
		"--advertise-client-urls", url, "--listen-peer-urls", peersURL, "--initial-advertise-peer-urls", peersURL,
		"--initial-cluster", "default="+peersURL, "--unsafe-no-fsync", "--log-level", "error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start(), "tools/setup.sh fleet fetches etcd")
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return url
}

// startServer starts the API server. Its data are below a prefix of the test's own etcd.
func (c *Cluster) startServer(t testing.TB, etcd, dir string) *rest.Config {
	t.Helper()
	o := options.NewCustomResourceDefinitionsServerOptions(io.Discard, io.Discard)
	r := o.RecommendedOptions
	r.Etcd.StorageConfig.Transport.ServerList = []string{etcd}
	l, _ := listen(t, "https")
	r.SecureServing.Listener, r.SecureServing.BindPort = l, l.Addr().(*net.TCPAddr).Port
	r.SecureServing.ServerCert.CertDirectory = filepath.Join(dir, "certificates")
	r.Authentication, r.Authorization, r.Admission = nil, nil, nil
	r.Features.EnablePriorityAndFairness = false
	// Webhooks of resources would be looked for here: there are none.
	nowhere := filepath.Join(dir, "nowhere")
	require.NoError(t, writeKubeconfig("https://127.0.0.1:1", "", nowhere))
	r.CoreAPI.CoreAPIKubeconfigPath = nowhere
	require.NoError(t, o.Complete())
	config, err := o.Config()
	require.NoError(t, err)
	config.GenericConfig.Authentication.Authenticator = bearertoken.New(authenticator.TokenFunc(c.rights.authenticate))
	config.GenericConfig.Authorization.Authorizer = authorizer.AuthorizerFunc(c.rights.authorize)
	others := http.NewServeMux()
	others.HandleFunc("/", listGroups)
	others.Handle("/api/v1/nodes", c.nodes)
	server, err := config.Complete().New(genericapiserver.NewEmptyDelegateWithCustomHandler(others))
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.GenericAPIServer.PrepareRun().RunWithContext(ctx) // what it says of its end is no test's concern
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	loopback := rest.CopyConfig(server.GenericAPIServer.LoopbackClientConfig)
	waitReady(t, loopback)
	return loopback
}

// listGroups lists the groups of resources, which is not this server's task in a whole cluster.
func listGroups(w http.ResponseWriter, r *http.Request) {
	var answer any
	switch r.URL.Path {
	case "/api":
		answer = metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}}
	case "/api/v1":
		answer = metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "v1",
			APIResources: []metav1.APIResource{{Name: "nodes", Kind: "Node", Verbs: metav1.Verbs{"list", "watch"}}},
		}
	case "/apis":
		version := metav1.GroupVersionForDiscovery{
			GroupVersion: v1alpha1.GroupVersion.String(), Version: v1alpha1.GroupVersion.Version,
		}
		answer = metav1.APIGroupList{
			TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"},
			Groups: []metav1.APIGroup{{
				Name: v1alpha1.GroupVersion.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
			}},
		}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // who does not read it has gone
}

func waitReady(t testing.TB, config *rest.Config) {
	t.Helper()
	made, err := clientset.NewForConfig(config)
	require.NoError(t, err)
	// Not the whole of readyz: the server waits there for the core's resources, which nobody serves.
	const synced = "/readyz/poststarthook/crd-informer-synced"
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		text, err := made.Discovery().RESTClient().Get().AbsPath(synced).DoRaw(context.Background())
		assert.NoError(t, err, "%s", text)
	}, readyTimeout, 50*time.Millisecond, "the API server does not serve resources")
}

func writeKubeconfig(server, token, file string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: server, InsecureSkipTLSVerify: true}
	config.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	config.CurrentContext = "test"
	return clientcmd.WriteToFile(*config, file)
}

// install installs the definitions of dpservice's resources.
func (c *Cluster) install(t testing.TB) {
	t.Helper()
	made, err := clientset.NewForConfig(c.Config)
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(c.root, "deploy/fleet/crd/*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	definitions := made.ApiextensionsV1().CustomResourceDefinitions()
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var crd apiextensions.CustomResourceDefinition
		require.NoError(t, yaml.UnmarshalStrict(text, &crd), file)
		_, err = definitions.Create(t.Context(), &crd, metav1.CreateOptions{})
		require.NoError(t, err, file)
		require.Eventually(t, func() bool {
			now, err := definitions.Get(t.Context(), crd.Name, metav1.GetOptions{})
			return err == nil && established(now)
		}, readyTimeout, 20*time.Millisecond, "%s is not served", crd.Name)
	}
}

func established(crd *apiextensions.CustomResourceDefinition) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensions.Established {
			return c.Status == apiextensions.ConditionTrue
		}
	}
	return false
}
