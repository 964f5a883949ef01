// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"dpservice/test/report"
	"dpservice/test/topology"
)

func TestMain(m *testing.M) {
	if err := ready(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := topology.Main(m)
	if err := labs.report(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// labs counts the labs of tests that have passed.
var labs passedLabs

type passedLabs struct{ built, passed atomic.Int32 }

// add counts a lab, if its test passes.
func (p *passedLabs) add(t *testing.T) {
	p.built.Add(1)
	t.Cleanup(func() {
		if !t.Failed() {
			p.passed.Add(1)
		}
	})
}

func (p *passedLabs) report() error {
	nic, err := topology.CurrentNIC()
	if err != nil {
		return err
	}
	return report.Line("end-to-end tests on %s: %d labs, in %d of them all went well", nic.Driver, p.built.Load(),
		p.passed.Load())
}

// ready returns an error that says what the tests lack.
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
	for _, name := range []string{"dpservice", "dpctl", nic.File} {
		if _, err := os.Stat(filepath.Join(build, name)); err != nil {
			return fmt.Errorf("%w; run make build", err)
		}
	}
	return nil
}
