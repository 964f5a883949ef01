// SPDX-License-Identifier: Apache-2.0

// Package version knows which build of dpservice this is.
package version

// version is set by the linker: -X dpservice/dpservice/version.version=...
var version = "unknown"

// String is the version that this program was built as.
func String() string { return version }
