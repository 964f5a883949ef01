// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"dpservice/rpc/api"
	"dpservice/tools/fleet/api/v1alpha1"
)

// sessionPrefix begins the names of the daemon's sessions that are an agent's. All others are people's, and no agent
// touches them.
const sessionPrefix = "k8s_"

// sessionName is the name of a session that is part of a PacketCapture. It has all that an agent needs to know its
// sessions again after a restart.
type sessionName struct {
	uid      string // of the PacketCapture
	revision string // of its spec
	number   int    // a capture has several sessions where interfaces came later
}

func (n sessionName) String() string {
	return fmt.Sprintf("%s%s_%s_%d", sessionPrefix, n.uid, n.revision, n.number)
}

// parseSessionName returns false for the name of a session that is not an agent's.
func parseSessionName(text string) (n sessionName, ok bool) {
	parts := strings.Split(text, "_")
	if len(parts) != 4 || parts[0]+"_" != sessionPrefix || parts[1] == "" || parts[2] == "" {
		return n, false
	}
	number, err := strconv.Atoi(parts[3])
	n = sessionName{parts[1], parts[2], number}
	return n, err == nil && n.String() == text
}

// revisionOf names what a session is made of. When a capture merely ends earlier or later, or on other nodes, it stays
// the same, and so does the session.
func revisionOf(s v1alpha1.PacketCaptureSpec) string {
	s.Nodes, s.StartTime, s.EndTime, s.Duration = nil, nil, nil, nil
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // it came as JSON
	}
	h := fnv.New32a()
	_, _ = h.Write(text) // never fails
	return fmt.Sprintf("%08x", h.Sum32())
}

// target is an interface, or a physical port, that can be captured.
type target struct {
	vf string // interface id; empty for PF0
}

func (t target) String() string {
	if t.vf == "" {
		return "pf0"
	}
	return t.vf
}

func (t target) selector() api.CaptureSelector {
	if t.vf == "" {
		return api.CaptureSelector{PF: new(int)}
	}
	return api.CaptureSelector{VF: t.vf}
}

// targetOf returns the target of a captured interface. PF1 is none of an agent's: then ok is false.
func targetOf(t api.CaptureTarget) (_ target, ok bool) {
	return target{t.VF}, t.PF == nil || *t.PF == 0
}
