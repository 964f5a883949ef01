// SPDX-License-Identifier: Apache-2.0

// Package testpmd tests the net_eswitch driver with a client that was not written for it: DPDK's own dpdk-testpmd
// loads the plugin and creates rules by its command line.
package testpmd
