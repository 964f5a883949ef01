// SPDX-License-Identifier: Apache-2.0

package rteflow

// headerText is data in the words of testpmd's "set raw_encap", if it has them.
func headerText([]byte) (string, bool) { return "", false }
