// SPDX-License-Identifier: Apache-2.0

// Package server answers JSON-RPC 2.0 requests on a unix socket.
package server
