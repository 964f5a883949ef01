// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the built binaries as a user runs them: dpservice on net_eswitch between network namespaces,
// dpctl, tcpdump at the sink. It needs root and the binaries of `make build`.
package e2e
