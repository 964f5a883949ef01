// SPDX-License-Identifier: Apache-2.0

// Package e2e tests captures over all nodes end to end: real daemons, agents, a collector and a real API server.
package e2e
