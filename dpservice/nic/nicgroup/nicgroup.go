// SPDX-License-Identifier: Apache-2.0

// Package nicgroup has the groups of the NIC's transfer domain with their names, and the priorities in them. It links
// no DPDK: dpctl uses it, too.
package nicgroup

import "fmt"

// A Group is a table of rules in the transfer domain. Packets enter Default, and only ever go on to a higher group.
type Group uint32

// The groups.
const (
	Default      Group = 0
	Capture      Group = 1  // what is copied as it comes in
	VNET         Group = 2  // flows of guests, and decapsulation of what comes from the wire
	Software     Group = 3  // has no rules: what is sent there comes to its port's RX queue
	Decapsulated Group = 4  // flows from the wire, by their own headers
	perPort      Group = 16 // and higher: two groups for each port
)

// Delivery is the group of what flows bring to a guest's port.
func Delivery(port uint16) Group { return perPort + 2*Group(port) }

// CaptureTX is the group of what is copied as the guest behind a port receives it: captures lead packets there from
// Delivery.
func CaptureTX(port uint16) Group { return Delivery(port) + 1 }

// OfAllPorts reports whether the group's rules are for packets from all ports, and not each for those of one.
func (g Group) OfAllPorts() bool { return g >= perPort }

// Name is what people call the group, for example "VNET" or "DELIVERY to port 2"; empty for a group that dpservice does
// not use.
func (g Group) Name() string {
	names := []string{Default: "DEFAULT", Capture: "CAPTURE", VNET: "VNET", Software: "SOFTWARE",
		Decapsulated: "DECAPSULATED"}
	switch {
	case g < Group(len(names)):
		return names[g]
	case g.OfAllPorts():
		name := []string{"DELIVERY to", "CAPTURE TX at"}[(g-perPort)%2]
		return fmt.Sprintf("%s port %d", name, (g-perPort)/2)
	default:
		return ""
	}
}

// String is the number and the name, for example "2 VNET", or the number alone if the group has no name.
func (g Group) String() string {
	if name := g.Name(); name != "" {
		return fmt.Sprintf("%d %s", uint32(g), name)
	}
	return fmt.Sprint(uint32(g))
}

// A Priority is a rule's place in its group: of the rules that match a packet, the one with the lowest priority wins.
type Priority uint32

// The priorities in Default, and but for the guard in Delivery: nothing precedes the guard, and captures take their
// packets from the base rules.
const (
	GuardPriority    Priority = 0
	RedirectPriority Priority = 1
	BasePriority     Priority = 2
)

// The priorities in VNET and Decapsulated: what no flow's rule may take comes first.
const (
	LastHopPriority     Priority = 0
	DetourPriority      Priority = 0
	DecapsulatePriority Priority = 1
	FlowPriority        Priority = 1
)
