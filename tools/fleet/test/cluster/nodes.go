// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// nodes is a stand-in for the API server's nodes, which it does not serve: of each there are its name and labels, to
// list and to watch.
type nodes struct {
	mu      sync.Mutex
	version int
	all     []node
}

type node struct {
	name    string
	labels  map[string]string
	version int
}

// SetNode has the cluster have a node with these labels.
func (c *Cluster) SetNode(name string, labels map[string]string) {
	n := c.nodes
	n.mu.Lock()
	defer n.mu.Unlock()
	n.version++
	n.all = slices.DeleteFunc(n.all, func(o node) bool { return o.name == name })
	n.all = append(n.all, node{name, labels, n.version})
}

// since returns what has changed since a version, of one node if selector is its name, and the present version.
func (n *nodes) since(version int, selector string) (changed []metav1.PartialObjectMetadata, now string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := strings.TrimPrefix(selector, "metadata.name=")
	for _, o := range n.all {
		if o.version > version && (name == "" || name == o.name) {
			m := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
				Name: o.name, Labels: o.labels, ResourceVersion: strconv.Itoa(o.version),
			}}
			m.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata"))
			changed = append(changed, m)
		}
	}
	return changed, strconv.Itoa(n.version)
}

// ServeHTTP lists and watches nodes.
func (n *nodes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	switch {
	case q.Get("sendInitialEvents") != "": // clients list, then
		status := apierrors.NewInvalid(schema.GroupKind{Kind: "Node"}, "", nil).Status()
		w.WriteHeader(int(status.Code))
		_ = encoder.Encode(status) // who does not read it has gone
	case q.Get("watch") != "":
		version, _ := strconv.Atoi(q.Get("resourceVersion")) // it is one of ours
		n.watch(w, r, version)
	default:
		items, version := n.since(0, q.Get("fieldSelector"))
		list := metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: version}, Items: items}
		list.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadataList"))
		_ = encoder.Encode(list) // as above
	}
}

func (n *nodes) watch(w http.ResponseWriter, r *http.Request, version int) {
	seconds, _ := strconv.Atoi(r.URL.Query().Get("timeoutSeconds")) // zero: the client looks again
	end := time.After(time.Duration(seconds) * time.Second)
	encoder := json.NewEncoder(w)
	for {
		changed, now := n.since(version, r.URL.Query().Get("fieldSelector"))
		for i := range changed {
			event := metav1.WatchEvent{Type: string(watch.Modified), Object: runtime.RawExtension{Object: &changed[i]}}
			if encoder.Encode(event) != nil {
				return
			}
		}
		_ = http.NewResponseController(w).Flush() // who does not read it has gone
		version, _ = strconv.Atoi(now)
		select {
		case <-r.Context().Done():
			return
		case <-end:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}
