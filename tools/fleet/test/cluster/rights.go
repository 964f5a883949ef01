// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/component-helpers/auth/rbac/validation"
	"sigs.k8s.io/yaml"
)

// Person is the account, and the role, of somebody who captures.
const Person = "dpservice-captures"

// rights are those of the service accounts in deploy/fleet. The API server has them decide on each request, and they
// keep what was asked.
type rights struct {
	granted []grant

	mu     sync.Mutex
	used   map[string]bool
	denied map[string]bool
}

// grant is one verb on one resource that a service account may do.
type grant struct {
	account   string
	namespace string // empty: in all
	rule      rbacv1.PolicyRule
}

func (g grant) String() string { return describeRight(g.account, g.rule) }

func describeRight(account string, r rbacv1.PolicyRule) string {
	return fmt.Sprintf("%s: %s %s", account, r.Verbs[0], strings.TrimPrefix(r.APIGroups[0]+"/"+r.Resources[0], "/"))
}

// loadRights reads the roles, and who has them.
func loadRights(t testing.TB, folder string) *rights {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	require.NoError(t, err)
	rules := map[string][]rbacv1.PolicyRule{} // by kind and name
	var bindings []rbacv1.RoleBinding
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, file)
			var kind metav1.TypeMeta
			require.NoError(t, yaml.Unmarshal(document, &kind), file)
			switch kind.Kind { // what is of the whole cluster differs in having no namespace
			case "Role", "ClusterRole":
				var r rbacv1.Role
				require.NoError(t, yaml.Unmarshal(document, &r), file)
				rules[kind.Kind+" "+r.Name] = r.Rules
			case "RoleBinding", "ClusterRoleBinding":
				var b rbacv1.RoleBinding
				require.NoError(t, yaml.Unmarshal(document, &b), file)
				bindings = append(bindings, b)
			}
		}
	}
	r := &rights{used: map[string]bool{}, denied: map[string]bool{}}
	bindings = append(bindings, rbacv1.RoleBinding{ // what operators do
		RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: Person}, Subjects: []rbacv1.Subject{{Name: Person}},
	})
	for _, b := range bindings {
		for _, of := range rules[b.RoleRef.Kind+" "+b.RoleRef.Name] {
			for _, one := range validation.BreakdownRule(of) {
				for _, subject := range b.Subjects {
					r.granted = append(r.granted, grant{subject.Name, b.Namespace, one})
				}
			}
		}
	}
	require.NotEmpty(t, r.granted)
	return r
}

// authenticate takes a service account's name as its token.
func (r *rights) authenticate(_ context.Context, token string) (*authenticator.Response, bool, error) {
	if !slices.ContainsFunc(r.granted, func(g grant) bool { return g.account == token }) {
		return nil, false, nil
	}
	of := &user.DefaultInfo{Name: token, Groups: []string{user.AllAuthenticated}}
	return &authenticator.Response{User: of}, true, nil
}

// authorize decides as Kubernetes does by these roles: validation.Covers is what it asks whether a role gives a right.
func (r *rights) authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if slices.Contains(a.GetUser().GetGroups(), user.SystemPrivilegedGroup) || !a.IsResourceRequest() {
		return authorizer.DecisionAllow, "", nil // what there is, everybody may know
	}
	resource := a.GetResource()
	if sub := a.GetSubresource(); sub != "" {
		resource += "/" + sub
	}
	asked := rbacv1.PolicyRule{
		Verbs: []string{a.GetVerb()}, APIGroups: []string{a.GetAPIGroup()}, Resources: []string{resource},
	}
	account := a.GetUser().GetName()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.granted {
		if g.account != account || g.namespace != "" && g.namespace != a.GetNamespace() {
			continue
		}
		if covered, _ := validation.Covers([]rbacv1.PolicyRule{g.rule}, []rbacv1.PolicyRule{asked}); covered {
			r.used[g.String()] = true
			return authorizer.DecisionAllow, "", nil
		}
	}
	r.denied[describeRight(account, asked)] = true
	return authorizer.DecisionNoOpinion, "no role allows it", nil
}

// Denied returns what service accounts wanted to do and might not.
func (c *Cluster) Denied() []string {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	return slices.Sorted(maps.Keys(c.rights.denied))
}

// Unused returns what service accounts might do and have not done.
func (c *Cluster) Unused() (all []string) {
	c.rights.mu.Lock()
	defer c.rights.mu.Unlock()
	for _, g := range c.rights.granted {
		if !c.rights.used[g.String()] {
			all = append(all, g.String())
		}
	}
	return all
}

// KubeconfigOf returns a file by which a program is a service account, with its rights. Everybody may read it.
func (c *Cluster) KubeconfigOf(t testing.TB, account string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dpservice-test-kubeconfig-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // its token is none
	file := filepath.Join(dir, "kubeconfig")
	require.NoError(t, writeKubeconfig(c.Config.Host, account, file))
	require.NoError(t, os.Chmod(file, 0o644)) //nolint:gosec // as above
	return file
}
