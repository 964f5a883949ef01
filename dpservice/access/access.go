// SPDX-License-Identifier: Apache-2.0

// Package access decides who may call what over the socket, by the rules of the configuration. It asks nobody: the same
// caller, request and rules give the same decision.
package access

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Class is what a request is about.
type Class string

// The classes. Every client may make requests of class Own: they show only what concerns the client itself.
const (
	Own        Class = "own"
	Read       Class = "read"
	Interfaces Class = "interfaces"
	Routes     Class = "routes"
	Captures   Class = "captures"
)

// classes are those that rules can allow.
var classes = []Class{Read, Interfaces, Routes, Captures}

// Changes reports whether requests of the class change something.
func (c Class) Changes() bool { return c != Own && c != Read }

// Peer is a client of the socket.
type Peer struct {
	UID    uint32
	User   string   // the name of UID; empty if it has none
	Groups []uint32 // all groups of the process
	Owner  bool     // root or the daemon's user: everything is allowed
	Member bool     // of the socket's group
}

// Request is what a client asks for.
type Request struct {
	Method   string
	Class    Class
	Captures []Capture // those that it starts or stops, if it is of class Captures
	Starts   bool      // it starts them, so their durations and rates are limited, too
}

// Capture is a capture that a client starts or stops.
type Capture struct {
	Name             string
	Sink             netip.Addr
	Targets          []Target
	Duration         time.Duration // after which it ends by itself; 0 if it does not
	PacketsPerSecond uint64        // beyond which it ends by itself; 0 if it does not
}

// Target is what a capture copies: an interface, or a physical port, whose Interface is empty.
type Target struct {
	Interface string
	VNI       uint32 // of the interface; 0 if there is no such interface
	PF        int
}

// Grant is what a peer may do, and by what.
type Grant struct {
	From   string // a rule, such as access[0], or who may do it without rules
	Allow  []Class
	Limits Limits // of captures
}

// Policy holds the rules in force. It never changes, so it is safe for concurrent use.
type Policy struct {
	configured bool
	rules      []rule
}

// rule is a Rule whose names are numbers.
type rule struct {
	Rule
	uids, gids []uint32
}

// New returns a Policy of the rules. Nil rules are none, which lets the members of the socket's group do everything,
// and others read. An empty list lets nobody but root and the daemon's user do anything. unknown says which users and
// groups do not exist: their rules let nobody in by these names.
func New(rules []Rule, names Names) (p *Policy, unknown []error) {
	p = &Policy{configured: rules != nil}
	for i, r := range rules {
		resolved := rule{Rule: r, uids: slices.Clone(r.UIDs), gids: slices.Clone(r.GIDs)}
		resolve := func(to *[]uint32, lookup func(string) (uint32, error), all []string) {
			for _, name := range all {
				id, err := lookup(name)
				if err != nil {
					unknown = append(unknown, fmt.Errorf("access[%d]: %w", i, err))
					continue
				}
				*to = append(*to, id)
			}
		}
		resolve(&resolved.uids, names.UID, r.Users)
		resolve(&resolved.gids, names.GID, r.Groups)
		p.rules = append(p.rules, resolved)
	}
	return p, unknown
}

// Configured reports whether there are rules, even if they let nobody in.
func (p *Policy) Configured() bool { return p.configured }

// Grants returns what a peer may do.
func (p *Policy) Grants(peer Peer) []Grant {
	switch {
	case peer.Owner:
		return []Grant{{From: "root and the daemon's user", Allow: classes}}
	case !p.configured && peer.Member:
		return []Grant{{From: "members of the socket's group", Allow: classes}}
	case !p.configured:
		return []Grant{{From: "everybody", Allow: []Class{Read}}}
	}
	var grants []Grant
	for i, r := range p.rules {
		if r.names(peer) {
			grants = append(grants, Grant{From: fmt.Sprintf("access[%d]", i), Allow: r.Allow, Limits: r.Limits})
		}
	}
	return grants
}

func (r rule) names(peer Peer) bool {
	return slices.Contains(r.uids, peer.UID) ||
		slices.ContainsFunc(r.gids, func(gid uint32) bool { return slices.Contains(peer.Groups, gid) })
}

// Denied says why a request is not allowed.
type Denied struct {
	Reason string // for people
	// Missing is the rule that would allow the request, as a line below "access:" in the configuration. It is empty if no
	// rules are configured: the first one would take from the socket's group what it may do.
	Missing string
}

func (d *Denied) Error() string { return d.Reason }

// Decide returns nil if a peer may make a request, and else a *Denied. Each capture must be allowed as a whole by one
// of the peer's grants.
func (p *Policy) Decide(peer Peer, r Request) error {
	if r.Class == Own {
		return nil
	}
	grants := slices.DeleteFunc(p.Grants(peer), func(g Grant) bool { return !slices.Contains(g.Allow, r.Class) })
	if len(grants) == 0 {
		return p.denied(peer, r, p.noGrant(peer, r))
	}
	for _, c := range r.Captures {
		if why := refusals(grants, c, r.Starts); why != "" {
			return p.denied(peer, r, fmt.Sprintf("%s of %s is not allowed to %s: %s", r.Method, c.Name, describe(peer), why))
		}
	}
	return nil
}

func (p *Policy) noGrant(peer Peer, r Request) string {
	if !p.configured {
		return fmt.Sprintf("%s is for root, the daemon's user and the members of the socket's group", r.Method)
	}
	return fmt.Sprintf("%s is not allowed to %s: no rule of access allows %s", r.Method, describe(peer), r.Class)
}

func (p *Policy) denied(peer Peer, r Request, reason string) error {
	d := &Denied{Reason: reason}
	if p.configured {
		d.Missing = missing(peer, r)
	}
	return d
}

// refusals returns why none of the grants allows a capture; empty if one does.
func refusals(grants []Grant, c Capture, starts bool) string {
	var why []string
	for _, g := range grants {
		refusal := g.Limits.refusal(c, starts)
		if refusal == "" {
			return ""
		}
		why = append(why, g.From+" "+refusal)
	}
	return strings.Join(why, "; ")
}

func describe(peer Peer) string {
	if peer.User == "" {
		return fmt.Sprintf("uid %d", peer.UID)
	}
	return fmt.Sprintf("user %s (uid %d)", peer.User, peer.UID)
}
