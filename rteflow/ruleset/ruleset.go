// SPDX-License-Identifier: Apache-2.0

// Package ruleset keeps the rules that stand in the NIC, each under a name, and changes them in
// steps that are undone when one fails.
package ruleset
