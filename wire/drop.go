// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"strings"
)

// DropReason says why the packet graph has dropped a packet. Copies of dropped packets carry the number, so a reason
// keeps it forever.
type DropReason uint8

// The reasons, as graph/nodes/dataplane.h explains them.
const (
	DropMalformed DropReason = iota
	DropNoInterface
	DropNotForUs
	DropMulticast
	DropMartianSource
	DropUnspecified
	DropLoopback
	DropLinkLocal
	DropBroadcast
	DropReserved
	DropToGateway
	DropTagged
	DropUnsupported
	DropSpoofed
	DropWrongPeer
	DropLocalSource
	DropNoRoute
	DropNoNeighbour
	DropUnknownUnderlay
	DropUnknownMark
	DropTTL
	DropTooBig
	DropNoHeadroom
	DropTX
	DropPuntFull
	DropPuntRate
	NumDropReasons // is none
)

var dropNames = strings.Fields(`malformed no_interface not_for_us multicast martian_source unspecified loopback
	link_local broadcast reserved to_gateway tagged unsupported spoofed wrong_peer local_source no_route no_neighbour
	unknown_underlay unknown_mark ttl too_big no_headroom tx punt_full punt_rate`)

// String is the name of the reason, which is that of its graph node without drop_. A reason of a newer node is
// reason-N.
func (r DropReason) String() string {
	if int(r) < len(dropNames) {
		return dropNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// The parts of a label of dropped packets: LabelDrop, the reason from the bit dropReasonShift on, and below it the
// label of what the port receives. So MaxDropLabel is the largest of those that can be in one.
const (
	LabelDrop       = 1 << 18
	dropReasonShift = 12
	MaxDropLabel    = 1<<dropReasonShift - 1
	maxDropReason   = LabelDrop>>dropReasonShift - 1
)

// DropLabel is the label of the packets that a port with the label l has received and that were dropped for a reason.
func DropLabel(l Label, r DropReason) Label { return LabelDrop | Label(r)<<dropReasonShift | l }

// Dropped reports whether the label is of dropped packets. It returns the label of what the port receives, and the
// reason.
func (l Label) Dropped() (received Label, reason DropReason, is bool) {
	if l&LabelDrop == 0 || l&LabelTX != 0 || l > MaxLabel {
		return 0, 0, false
	}
	return l & MaxDropLabel, DropReason(l >> dropReasonShift & maxDropReason), true
}

// WithoutReason returns a label of dropped packets as captures show it, with 0 for the reason, and others as they are.
func (l Label) WithoutReason() Label {
	if received, _, is := l.Dropped(); is {
		return DropLabel(received, 0)
	}
	return l
}
