// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reception is what rules on a port let testpmd receive of a packet from the port's wire.
type reception struct {
	name   string
	port   int
	wire   string
	rules  []string
	dump   string // the NIC's words for the last rule's actions
	in     []byte
	copies int // how often the packet arrives; 0: once
	says   string
	stat   string
}

const (
	received0 = `port 8/queue 0: received 1 packets\n.* - length=74 `
	received1 = `port 8/queue 1: received 1 packets\n.* - length=74 `
)

// receptions are all that decides what the application receives, and with which metadata.
var receptions = []reception{
	{name: "a miss", port: vf0, wire: "vf0", in: tcp4, says: received0, stat: "misses: 1"},
	{
		name: "queue", port: vf0, wire: "vf0",
		rules: []string{"ingress pattern eth / ipv4 / end actions queue index 1 / end"},
		dump:  "queue=1", in: tcp4, says: received1, stat: "ingress_hits: 1",
	},
	{
		name: "drop", port: vf0, wire: "vf0", rules: []string{"ingress pattern eth / end actions drop / end"},
		dump: "drop", in: tcp4, stat: "dropped: 1",
	},
	{
		name: "jump", port: vf0, wire: "vf0", rules: []string{
			"group 5 ingress pattern eth / end actions queue index 1 / end",
			"ingress pattern eth / end actions jump group 5 / end",
		},
		dump: "jump=5", in: tcp4, says: received1,
	},
	{
		name: "mark", port: vf0, wire: "vf0",
		rules: []string{"ingress pattern eth / end actions mark id 5 / queue index 1 / end"},
		dump:  "mark=5 queue=1", in: tcp4, says: received1 + `.* - FDIR matched ID=0x5 `,
	},
	{
		name: "rss", port: vf0, wire: "vf0",
		rules: []string{"ingress pattern eth / ipv4 / end actions rss queues 1 1 end / end"},
		dump:  "rss=1,1", in: tcp4, says: received1, stat: "ingress_hits: 1",
	},
	{
		name: "flag", port: vf0, wire: "vf0", rules: []string{"ingress pattern eth / end actions flag / queue index 1 / end"},
		dump: "flag queue=1", in: tcp4, says: received1,
	},
	{
		name: "sample", port: vf0, wire: "vf0", rules: []string{
			"ingress pattern eth / end actions jump group 1 / end",
			"group 1 ingress pattern eth / end actions sample ratio 1 index 4 / queue index 0 / end",
		},
		dump: "sample=1 { mark=7 queue=1 } queue=0", in: tcp4, says: received1 + `.* - FDIR matched ID=0x7 `,
		stat: "sampled: 1",
	},
	{
		name: "one sample in three", port: vf0, wire: "vf0",
		rules: []string{"transfer pattern eth / end actions sample ratio 3 / drop / end"},
		dump:  "sample=3 { } drop", in: tcp4, copies: 3, says: `port 6/queue 0: received 1 packets\n.* - length=74 `,
		stat: "sampled: 1",
	},
	{
		name: "mark in the switch", port: xvf0, wire: "xvf0", rules: []string{
			"group 1 transfer pattern mark id spec 9 / eth / end actions jump group 2 / end",
			"ingress pattern mark id spec 8 id mask 0xc / eth / end actions queue index 1 / end",
			"transfer pattern eth / end actions mark id 9 / jump group 1 / end",
		},
		dump: "mark=9 jump=1", in: tcp4,
		says: `port 11/queue 1: received 1 packets\n.* - length=74 .* - FDIR matched ID=0x9 `, stat: "ingress_hits: 1",
	},
	{
		name: "metadata", port: xvf0, wire: "xvf0", rules: []string{
			"transfer pattern eth / end actions jump group 1 / end",
			"ingress pattern meta data spec 0x4d data mask 0xffff / eth / end actions queue index 1 / end",
			"group 1 transfer pattern eth / end actions set_meta data 0x14d mask 0xff / jump group 2 / end",
		},
		dump: "set_meta=0x4d/0xff jump=2", in: tcp4,
		says: `port 11/queue 1: received 1 packets\n.* - length=74 .* - Rx metadata: 0x4d `,
	},
}

// toTheApplication lets testpmd say what it receives.
func (w *walk) toTheApplication(t *testing.T) {
	w.tell(t, "set flush_rx off")
	w.Ask(t, "set verbose 1")
	w.Ask(t, "set fwd rxonly")
	require.Contains(t, w.Ask(t, "start"), "rxonly packet forwarding")
	for _, r := range receptions {
		t.Run(r.name, func(t *testing.T) { w.reception(t, r) })
	}
	require.Contains(t, w.Ask(t, "stop"), "Done.")
	w.Ask(t, "set verbose 0")
}

func (w *walk) reception(t *testing.T, r reception) {
	w.counts.actions++
	defer w.flush(t, r.port)
	number := ""
	for _, rule := range r.rules {
		number = w.create(t, r.port, rule)
	}
	if number != "" {
		assert.Contains(t, w.dump(t, r.port, number)+"\n", " actions "+r.dump+"\n")
	}
	w.Ask(t, "clear port xstats all")
	mark := w.Mark()
	for range max(r.copies, 1) {
		w.counts.packets++
		w.send(t, r.wire, r.in)
	}
	if r.says != "" {
		w.Says(t, mark, r.says+`.*\n *ol_flags: .*\n`) // to its end: the next answer begins there
	}
	if r.stat != "" {
		w.stat(t, r.port, r.stat)
	}
}

// sharedActions walks what rules can share, and what is said of it.
func (w *walk) sharedActions(t *testing.T) {
	for _, c := range []struct{ command, want string }{
		{"flow indirect_action 8 create action_id 1 transfer action count / end", "Indirect action #1 created\n"},
		{"flow indirect_action 8 create action_id 2 transfer action age timeout 600 / end", "Indirect action #2 created\n"},
		{"flow indirect_action 9 create action_id 3 transfer action age timeout 1 / end", "Indirect action #3 created\n"},
	} {
		require.Equal(t, c.want, w.Ask(t, c.command))
		w.counts.actions++
	}
	tcpRule := w.create(t, vf0,
		"transfer pattern eth / ipv4 / tcp / end actions indirect 1 / indirect 2 / port_id id 9 / end")
	udpRule := w.create(t, vf0,
		"transfer pattern eth / ipv4 / udp / end actions indirect 2 / indirect 1 / port_id id 9 / end")
	assert.Equal(t,
		"on vf0 from vf0 transfer group 0 priority 0 pattern ip=4 l4=6 actions count=shared age=600,shared port=vf1 "+
			"# 0 packets 0 bytes",
		w.dump(t, vf0, tcpRule))
	w.counts.packets += 2
	w.send(t, "vf0", tcp4, udp4)
	assert.Equal(t, [][]byte{tcp4, udp4}, w.left(t, "vf1", 2))
	both := fmt.Sprintf(" hits_set: 1\n bytes_set: 1\n hits: 2\n bytes: %d\n", len(tcp4)+len(udp4))
	assert.Contains(t, w.Ask(t, "flow indirect_action 8 query 1"), both)
	assert.Equal(t, "COUNT:\n"+both, w.Ask(t, fmt.Sprintf("flow query 8 %s count", udpRule)))
	assert.Regexp(t, `aged: 0\n sec_since_last_hit_valid: 1\n sec_since_last_hit: \d`,
		w.Ask(t, "flow indirect_action 8 query 2"))
	w.refused(t, "flow indirect_action 8 destroy action_id 1",
		"flow rule (handle): 2 rules have this indirect action: Device or resource busy")
	w.refused(t, "flow indirect_action 8 create transfer action drop / end",
		"specific action: only COUNT and AGE can be indirect: Operation not supported")
	w.refused(t, "flow indirect_action 8 create transfer action age timeout 0 / end",
		"specific action: action AGE: the timeout is 0: Invalid argument")
	w.refused(t, "flow indirect_action 8 update 1 action count / end",
		"specific action: indirect COUNT and AGE cannot be updated: Operation not supported")
	w.refused(t, "flow create 9 transfer pattern eth / end actions indirect 3 / indirect 3 / drop / end",
		"specific action: action INDIRECT: is given twice: Invalid argument")
	w.ageing(t)
	w.destroy(t, vf0, tcpRule)
	w.destroy(t, vf0, udpRule)
	for _, c := range []string{"8 destroy action_id 1", "8 destroy action_id 2", "9 destroy action_id 3"} {
		assert.Regexp(t, `^Indirect action #\d destroyed\n$`, w.Ask(t, "flow indirect_action "+c))
	}
}

// ageing waits until a rule and an indirect action without traffic have aged.
func (w *walk) ageing(t *testing.T) {
	w.counts.actions++
	mark := w.Mark()
	rule := w.create(t, vf1, "group 2 transfer pattern eth / end actions age timeout 1 / drop / end")
	w.Says(t, mark, `(?i)port 9: flow aged event`)
	require.NoError(t, until(t.Context(), func() error {
		if answer := w.Ask(t, fmt.Sprintf("flow query 9 %s age",
			rule)); answer != "AGE:\n aged: 1\n sec_since_last_hit_valid: 0\n sec_since_last_hit: 0\n" {
			return fmt.Errorf("has not aged: %s", answer)
		}
		return nil
	}))
	aged := w.Ask(t, "flow aged 9")
	assert.Contains(t, aged, "Port 9 total aged flows: 2\n")
	assert.Regexp(t, `\nIndirect action +\t3\n`, aged)
	assert.Regexp(t, `\nFlow +\t`+rule+`\t\d+\t0\t--t\t\n`, aged)
	assert.Contains(t, w.dump(t, vf1, rule), " # aged")
	w.destroy(t, vf1, rule)
}

// ports walks what a switch says of its ports.
func (w *walk) ports(t *testing.T) {
	for port, want := range map[int][]string{
		pf0:  {"Switch name: net_eswitch0\n", "Switch domain Id: 0\n"},
		vf0:  {"Switch name: net_eswitch0\n", "Switch domain Id: 0\n", "Switch Port Id: 0\n"},
		xvf0: {"Switch name: net_eswitch1\n", "Switch domain Id: 1\n", "Switch Port Id: 0\n"},
	} {
		info := w.Ask(t, fmt.Sprintf("show port info %d", port))
		for _, line := range want {
			assert.Contains(t, info, line)
		}
	}
	for port, proxy := range map[int]int{pf0: pf0, vf0: pf0, vf1: pf0, xvf0: xpf0} {
		assert.Contains(t, w.Ask(t, fmt.Sprintf("show port %d flow transfer proxy", port)), fmt.Sprintf("%d", proxy))
	}
	w.counts.refusals++
	assert.Contains(t, w.Ask(t, fmt.Sprintf("show port %d flow transfer proxy", pf1)), "Invalid argument")
	w.refused(t, "flow isolate 8 1", "cause unspecified: the port has to be stopped first: Device or resource busy")
	rule := w.create(t, vf0, "transfer pattern eth / end actions drop / end")
	w.refused(t, fmt.Sprintf("flow query 8 %s count", rule), "specific action: the rule does not count: Invalid argument")
	w.refused(t, fmt.Sprintf("flow query 8 %s age", rule), "specific action: the rule does not age: Invalid argument")
	w.destroy(t, vf0, rule)
}
