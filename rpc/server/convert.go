// SPDX-License-Identifier: Apache-2.0

package server

import "net/netip"

// convert applies f to every element. The result is never nil, so that it is [] in JSON and not null.
func convert[T, R any](in []T, f func(T) R) []R {
	out := make([]R, 0, len(in))
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

// list returns in, but never nil, so that it is [] in JSON and not null.
func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

// text returns the address for people and programs; empty for the zero Addr.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
