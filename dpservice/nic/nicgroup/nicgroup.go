// SPDX-License-Identifier: Apache-2.0

// Package nicgroup has the groups of the NIC's transfer domain, and their names.
package nicgroup

import "fmt"

// The groups of the transfer domain. Packets enter Default, and only ever go on to a higher group.
const (
	Default      = 0
	Capture      = 1  // what is copied as it comes in
	VNET         = 2  // flows of guests, and decapsulation of what comes from the wire
	Software     = 3  // has no rules: what is sent there comes to its port's RX queue
	Decapsulated = 4  // flows from the wire, by their own headers
	delivery     = 16 // and more, by port: what is copied as a guest receives it
)

// Delivery is the group of what goes to a port, where that is copied.
func Delivery(port uint16) uint32 { return delivery + uint32(port) }

// Name is what people call the group, for example "VNET" or "DELIVERY to port 2"; empty for a group that dpservice does
// not use.
func Name(group uint32) string {
	names := []string{Default: "DEFAULT", Capture: "CAPTURE", VNET: "VNET", Software: "SOFTWARE",
		Decapsulated: "DECAPSULATED"}
	switch {
	case group < uint32(len(names)):
		return names[group]
	case group >= delivery:
		return fmt.Sprintf("DELIVERY to port %d", group-delivery)
	default:
		return ""
	}
}
