// SPDX-License-Identifier: Apache-2.0

// Package testpmd tests the device half of the virtual ConnectX: dpdk-testpmd with the distribution's net_mlx5 forwards
// frames over it.
package testpmd
