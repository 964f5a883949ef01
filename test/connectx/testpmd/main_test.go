// SPDX-License-Identifier: Apache-2.0

package testpmd_test

import (
	"os"
	"testing"

	"dpservice/test/topology"
)

func TestMain(m *testing.M) { os.Exit(topology.Main(m)) }
