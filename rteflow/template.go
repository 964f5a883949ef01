// SPDX-License-Identifier: Apache-2.0

package rteflow

/*
#include "flow.h"
*/
import "C"

import "slices"

// Maker makes a rule when it is needed: for rules that are too many to be kept, or to be encoded one by one.
type Maker interface {
	// MakeSpec makes the whole rule.
	MakeSpec() Rule
	// Template is that of rules of the same shape, and Fill puts this rule's own values into a copy of it. Together they
	// give what MakeSpec gives.
	Template() *Template
	Fill(v Values)
}

// Template is a rule in the form that C takes, to be copied for rules that differ from it in some values only: that is
// cheaper than making and encoding each. It does not change, so it is safe for concurrent use.
type Template struct {
	rule    Rule
	bytes   []byte
	items   []int // where the items' values begin in bytes; 0 for an item without conditions
	actions []int // likewise the actions' configurations, and of RawEncap and RawDecap the headers
}

// NewTemplate encodes a rule. Its error has the form of a driver's.
func NewTemplate(r Rule) (*Template, error) {
	e := newEncoder()
	defer e.free()
	if err := e.rule(r); err != nil {
		return nil, err
	}
	t := &Template{rule: r, bytes: slices.Clone(e.buf)}
	head := structAt[C.struct_rf_rule](e, 0)
	for i := range r.Pattern {
		item := structAt[C.struct_rf_item](e, int(head.items)+i*C.sizeof_struct_rf_item)
		t.items = append(t.items, int(item.spec))
	}
	for i, a := range r.Actions {
		action := structAt[C.struct_rf_action](e, int(head.actions)+i*C.sizeof_struct_rf_action)
		at := int(action.conf)
		switch a.(type) {
		case RawEncap:
			at = int(structAt[C.struct_rf_raw_encap](e, at).data)
		case RawDecap:
			at = int(structAt[C.struct_rf_raw_decap](e, at).data)
		}
		t.actions = append(t.actions, at)
	}
	return t, nil
}

// Values are those of a rule that was copied from a Template. They are to be changed by Fill only, before it returns.
type Values struct {
	template *Template
	bytes    []byte
}

// Header returns the values that the i-th item matches, as the protocol's header has them on the wire.
func (v Values) Header(i int) []byte { return v.bytes[v.template.items[i]:][:C.RF_ROOM] }

// SetPort changes the port that the i-th item, a RepresentedPort or a PortID, names.
func (v Values) SetPort(i int, port uint16) {
	if _, ok := v.template.rule.Pattern[i].(PortID); ok {
		native.PutUint32(v.Header(i), uint32(port))
		return
	}
	native.PutUint16(v.Header(i), port)
}

// Data returns what the i-th action is about: the MAC of SetMACSrc and SetMACDst, the header of RawEncap and RawDecap.
func (v Values) Data(i int) []byte { return v.bytes[v.template.actions[i]:] }

// SetAge changes the context of the i-th action, an Age.
func (v Values) SetAge(i int, context uint64) { native.PutUint64(v.Data(i)[8:], context) }

// SetJump changes where the i-th action, a Jump, leads.
func (v Values) SetJump(i int, group uint32) { native.PutUint32(v.Data(i), group) }

// made appends the rule that a Maker makes.
func (e *encoder) made(m Maker) {
	t := m.Template()
	e.start = len(e.buf)
	e.buf = append(e.buf, t.bytes...)
	m.Fill(Values{t, e.buf[e.start:]})
}
