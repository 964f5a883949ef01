// SPDX-License-Identifier: Apache-2.0

package topology

// RemoveNamespace is removeNamespace, which a lab calls for each of its namespaces when it closes.
var RemoveNamespace = removeNamespace

// Threads is threads, which describes a process that does not end.
var Threads = (*Process).threads
