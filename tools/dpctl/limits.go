// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"dpservice/rpc/api"
)

// limitFlags are the flags that limit a capture.
type limitFlags struct {
	duration time.Duration
	packets  uint64
	bytes    size
	rate     uint64
}

// params returns nil if there is no limit.
func (l limitFlags) params() *api.CaptureLimits {
	if l == (limitFlags{}) {
		return nil
	}
	p := &api.CaptureLimits{Packets: l.packets, Bytes: uint64(l.bytes), PacketsPerSecond: l.rate}
	if l.duration != 0 {
		p.Duration = l.duration.String()
	}
	return p
}
