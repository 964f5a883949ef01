// SPDX-License-Identifier: Apache-2.0

package dpdk

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// hasCarrier asks the kernel whether an interface is up and has a carrier. An interface that no longer exists has none.
// The flag IFF_RUNNING is not used: it changes up to a second late.
func hasCarrier(index int) (bool, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	ask := nl.NewIfInfomsg(unix.AF_UNSPEC)
	ask.Index = int32(index)
	req.AddData(ask)
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if errors.Is(err, syscall.ENODEV) {
		return false, nil
	}
	if err != nil || len(answers) == 0 {
		return false, fmt.Errorf("asking the kernel for the link of interface %d: %w", index, err)
	}
	link := nl.DeserializeIfInfomsg(answers[0])
	attrs, err := nl.ParseRouteAttrAsMap(answers[0][link.Len():])
	if err != nil {
		return false, fmt.Errorf("reading the link of interface %d: %w", index, err)
	}
	carrier, known := attrs[unix.IFLA_CARRIER]
	return link.Flags&unix.IFF_UP != 0 && (!known || len(carrier.Value) > 0 && carrier.Value[0] != 0), nil
}
