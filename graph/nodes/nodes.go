// SPDX-License-Identifier: Apache-2.0

// Package nodes is the packet path: the graph's C nodes, and Go wrappers around them that hold no policy.
package nodes
