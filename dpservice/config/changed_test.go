// SPDX-License-Identifier: Apache-2.0

package config

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestChanged(t *testing.T) {
	a, b := Default(), Default()
	assert.Empty(t, Changed(a, b))
	b.EAL = []string{"-l", "0,1"}
	b.Flows.Timeouts.UDP = time.Minute
	b.RPC.MaxClients++
	b.LogLevel = slog.LevelDebug
	assert.Equal(t, []string{"eal", "flows.timeouts.udp", "rpc.max_clients", "log_level"}, Changed(a, b))
}
