// SPDX-License-Identifier: Apache-2.0

package topology

// RemoveNamespace is what a lab does to each of its namespaces when it closes.
var RemoveNamespace = removeNamespace

// Threads is what a lab says of a process that does not end.
var Threads = (*Process).threads
