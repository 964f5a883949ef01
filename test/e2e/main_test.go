// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dpservice/test/topology"
)

func TestMain(m *testing.M) {
	if err := ready(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(topology.Main(m))
}

// ready tells what the tests lack.
func ready() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("root is needed, to build network namespaces")
	}
	build, err := topology.BuildDir()
	if err != nil {
		return err
	}
	nic, err := topology.CurrentNIC()
	if err != nil {
		return err
	}
	for _, name := range []string{"dpservice", "dpctl", nic.File()} {
		if _, err := os.Stat(filepath.Join(build, name)); err != nil {
			return fmt.Errorf("%w; run make build", err)
		}
	}
	return nil
}
