// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/rpc/api"
	"dpservice/rpc/server/servertest"
)

// captured returns the rules of a VF that is captured and has flows: more than are drawn without folding.
func captured(flows int) []api.Rule {
	rule := func(group, priority uint32, name, pattern, actions string) api.Rule {
		return api.Rule{Name: name, Port: "vf0", PortID: 2, Domain: "transfer", Group: group, Priority: priority,
			Pattern: "represented_port ethdev_port_id is 2 / eth" + pattern, Actions: actions}
	}
	rules := []api.Rule{
		rule(0, 0, "capture/default/redirect/0", "", "jump group 1"),
		rule(0, 1, "base/0", "", "jump group 2"),
		rule(1, 15, "capture/default/sample/15", "",
			"count / sample ratio 1 { raw_encap { eth / ipv6 src is fc00:1::1 / udp } / "+
				"represented_port ethdev_port_id 0 } / jump group 2"),
	}
	for i := range flows {
		hits := uint64(i)
		r := rule(2, 0, fmt.Sprintf("flow/%d", i), " / ipv4 / udp", "count / port_id id 3")
		r.Hits = &hits
		rules = append(rules, r)
	}
	return append(rules, api.Rule{Name: "base/receive/0", Port: "vf0", PortID: 2, Domain: "ingress", Pattern: "eth",
		Actions: "queue index 0"},
		rule(2, 5, "odd", " / ipv6 <&>", "drop"))
}

func TestRuleGraph(t *testing.T) {
	dot := drawRules(captured(20), 8)
	for _, line := range []string{
		"in2 -> p2_transfer0;",
		"p2_transfer0:r0 -> p2_transfer1;",
		"p2_transfer0:r1 -> p2_transfer2;",
		`p2_transfer1:r0 -> out0 [style=dashed, label="copy"];`,
		"p2_transfer1:r0 -> p2_transfer2;",
		"p2_transfer2:r0 -> out3;",
		"p2_transfer2:r1 -> drop;",
		"p2_ingress0:r0 -> sw2;",
		`p2_transfer2 -> p2_ingress0 [style=dotted, label="no match"];`,
		`out0 [label="out of port 0", shape=cds];`,
		"<B>CAPTURE (group 1)</B>",
		`<TD ALIGN="LEFT">flow</TD><TD ALIGN="LEFT">20 rules</TD><TD ALIGN="RIGHT" PORT="r0">190 hits</TD>`,
		`<TD ALIGN="LEFT">eth → count / sample ratio 1 { raw_encap / represented_port ethdev_port_id 0 } / jump group 2</TD>`,
		"eth / ipv6 &lt;&amp;&gt; → drop",
	} {
		assert.Contains(t, dot, line)
	}
	assert.NotContains(t, dot, "flow/")
	assert.Equal(t, 20, strings.Count(drawRules(captured(20), 0), ">flow/"))
	assert.Equal(t, 8, strings.Count(drawRules(captured(8), 8), ">flow/"))
}

// A group that rules jump to is drawn even if it has no rules.
func TestRuleGraphOfAnEmptyGroup(t *testing.T) {
	rules := captured(0)[1:2]
	rules = append(rules, api.Rule{Name: "base/last_hop/0", Port: "vf0", PortID: 2, Domain: "transfer", Group: 2,
		Pattern: "represented_port ethdev_port_id is 2 / eth / ipv4 ttl spec 0 ttl mask 254", Actions: "jump group 3 / end"},
		api.Rule{Name: "tunnel/0", Port: "pf0", PortID: 0, Domain: "transfer", Group: 2, Pattern: "eth / ipv6",
			Actions: "count / raw_decap { eth / ipv6 } / raw_encap { eth } / jump group 4"},
		api.Rule{Name: "flow/1", Port: "pf0", PortID: 0, Domain: "transfer", Group: 4, Pattern: "eth / ipv4",
			Actions: "count / jump group 20"},
		api.Rule{Name: "base/delivery/2", Port: "pf0", PortID: 0, Domain: "transfer", Group: 20,
			Pattern: "represented_port / eth", Actions: "represented_port ethdev_port_id 2"})
	dot := drawRules(rules, 8)
	assert.Contains(t, dot, "p2_transfer0:r0 -> p2_transfer2;")
	assert.Contains(t, dot, "<B>VNET (group 2)</B>")
	assert.Contains(t, dot, "p2_transfer2:r0 -> p2_transfer3;")
	assert.Contains(t, dot, "<B>SOFTWARE (group 3)</B>")
	assert.Contains(t, dot, `p2_transfer3 -> sw2 [style=dotted, label="no match"];`)
	assert.NotContains(t, dot, "CAPTURE")
	assert.Contains(t, dot, "<B>DECAPSULATED (group 4)</B>")
	assert.Contains(t, dot, "subgraph cluster_all {\n\t\tlabel=\"packets of all ports\"")
	assert.Contains(t, dot, "<B>DELIVERY to port 2 (group 20)</B>")
	assert.Contains(t, dot, "p0_transfer4:r0 -> all20;")
	assert.Contains(t, dot, "all20:r0 -> out2;")
	assert.NotContains(t, dot, "all20 -> ", "a base rule takes what no other does")
	assert.Equal(t, 3, strings.Count(drawRules(nil, 8), ";"), "no rules, no boxes")
}

// Graphviz accepts the drawing.
func TestRuleGraphRenders(t *testing.T) {
	var svg bytes.Buffer
	require.NoError(t, renderSVG(t.Context(), strings.NewReader(drawRules(captured(20), 8)), &svg))
	for _, text := range []string{"<svg", "CAPTURE (group 1)", "VNET (group 2)", "out of port 3", "20 rules"} {
		assert.Contains(t, svg.String(), text)
	}
	err := renderSVG(t.Context(), strings.NewReader("nonsense"), &svg)
	assert.ErrorContains(t, err, "syntax error")

	t.Setenv("PATH", "/nonexistent")
	assert.ErrorContains(t, renderSVG(t.Context(), strings.NewReader(""), &svg), "install the package graphviz")
}

func TestSVGCommands(t *testing.T) {
	socket := servertest.Start(t, servertest.New().Services())
	for want, args := range map[string][]string{
		"classify":       {"graph", "--svg"},
		"VNET (group 2)": {"rule", "graph", "--svg"},
	} {
		r := dpctl(t, socket, args...)
		require.Zero(t, r.code, r.stderr)
		assert.Contains(t, r.stdout, "<svg")
		assert.Contains(t, r.stdout, want)
	}
}
