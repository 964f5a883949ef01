// SPDX-License-Identifier: Apache-2.0

package capture

import "dpservice/rteflow/ruleset"

// ruleKey names a rule of a capture on its port.
type ruleKey struct {
	port uint16
	name string
}

// ruleOwner is the Owner of a capture's rule.
type ruleOwner string

func (o ruleOwner) String() string { return string(o) }

// registry finds the rules of a session by their names.
type registry struct {
	rules Rules
	known map[ruleKey]*ruleset.Rule
}

func (m *Manager) newRegistry() registry { return registry{m.deps.Rules, map[ruleKey]*ruleset.Rule{}} }

// add is the operation that adds a rule under a name.
func (g registry) add(port uint16, name string, r *ruleset.Rule) ruleset.Op {
	r.Port, r.Owner = port, ruleOwner(name)
	g.known[ruleKey{port, name}] = r
	return ruleset.Op{Rule: r}
}

// remove is the operation that removes a rule.
func (g registry) remove(port uint16, name string) ruleset.Op {
	return ruleset.Op{Rule: g.known[ruleKey{port, name}], Remove: true}
}

// has reports whether a rule is installed.
func (g registry) has(port uint16, name string) bool {
	r := g.known[ruleKey{port, name}]
	return r != nil && g.rules.Installed(r)
}
