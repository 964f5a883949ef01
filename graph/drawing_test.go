// SPDX-License-Identifier: Apache-2.0

package graph_test

import (
	"flag"
	"html"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dpservice/graph"
	"dpservice/graph/nodes"
)

var draw = flag.Bool("draw", false, "draw docs/graph.svg anew")

const drawing = "../docs/graph.svg"

// docs/graph.svg is the graph of a node with one VF and one uplink, as Graphviz draws what DOT returns.
func TestDrawing(t *testing.T) {
	cfg := testConfig()
	cfg.Ports = []graph.PortConfig{{ID: ports.vf0.ID, Name: "vf", VF: true}, {ID: ports.pf0.ID, Name: "pf"}}
	g, err := nodes.New(cfg)
	require.NoError(t, err)
	edges := edgesOf(g.DOT())
	require.NoError(t, g.Close())

	if *draw {
		dot := exec.Command("dot", "-Tsvg", "-o", drawing)
		dot.Stdin = strings.NewReader("digraph packets {\nrankdir=LR\nnode [shape=box fontname=\"sans-serif\"]\n" +
			strings.Join(edges, "\n") + "\n}\n")
		out, err := dot.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	svg, err := os.ReadFile(drawing)
	require.NoError(t, err)
	var drawn []string
	for _, title := range regexp.MustCompile(`<title>(.*?)</title>`).FindAllStringSubmatch(string(svg), -1) {
		if from, to, ok := strings.Cut(html.UnescapeString(title[1]), "->"); ok {
			drawn = append(drawn, `"`+from+`"->"`+to+`"`)
		}
	}
	slices.Sort(drawn)
	require.Equal(t, edges, drawn, "the graph has changed: make draw")
}

// edgesOf returns the edges of a graph in DOT, in order and without their colours. Newer versions of DPDK put spaces
// around the arrow.
func edgesOf(dot string) (edges []string) {
	for _, edge := range regexp.MustCompile(`("[^"]+") ?-> ?("[^"]+")`).FindAllStringSubmatch(dot, -1) {
		edges = append(edges, edge[1]+"->"+edge[2])
	}
	slices.Sort(edges)
	return slices.Compact(edges)
}
