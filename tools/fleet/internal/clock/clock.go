// SPDX-License-Identifier: Apache-2.0

// Package clock asks the kernel what it knows of this machine's clock.
package clock

import (
	"golang.org/x/sys/unix"

	"dpservice/tools/fleet/api/v1alpha1"
)

// Now returns what the kernel knows of this machine's clock; nil if it does not say. Reading needs no privileges.
func Now() *v1alpha1.Clock {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return nil
	}
	offset := t.Offset
	if t.Status&unix.STA_NANO != 0 {
		const nanoseconds = 1000
		offset /= nanoseconds
	}
	return &v1alpha1.Clock{
		Synchronized:       state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0,
		OffsetMicroseconds: offset, MaxErrorMicroseconds: t.Maxerror,
	}
}
