// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the built binaries as a user runs them: dpservice on a NIC between network namespaces, dpctl,
// tcpdump at the sink. It needs root and the binaries of `make build`. DPLAB_NIC says on which NIC: net_eswitch, or
// net_mlx5 over the virtual ConnectX.
package e2e
