// SPDX-License-Identifier: Apache-2.0

// Package packaging tests the Debian packages that `make deb` makes of this folder, and what is in them:
// the unit, the alerts and the dashboard.
package packaging
