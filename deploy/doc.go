// SPDX-License-Identifier: Apache-2.0

// Package deploy holds the manifests of dpservice's DaemonSet; the Go code only tests them.
package deploy
