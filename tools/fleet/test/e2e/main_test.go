// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dpservice/test/topology"
)

// buildDir has what make build and make build-fleet have built.
var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = filepath.Abs("../../../../build"); err == nil {
		err = os.Setenv("DPLAB_BUILD", buildDir) // this module has a root of its own
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(topology.Main(m))
}
