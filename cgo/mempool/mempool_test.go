// SPDX-License-Identifier: Apache-2.0

package mempool_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dpservice/cgo/eal"
	"dpservice/cgo/mempool"
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	err := eal.Init([]string{"--no-huge", "-m", "64", "--no-pci", "--file-prefix",
		fmt.Sprintf("mempool-test-%d", os.Getpid()), "-l", "0"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := eal.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestPool(t *testing.T) {
	pool, err := mempool.NewPktmbuf("test", 1023, 32, 0, mempool.DataRoom)
	require.NoError(t, err)
	assert.NotNil(t, pool.Ptr())
	assert.Equal(t, 1023, pool.Available())

	_, err = mempool.NewPktmbuf("test", 1023, 32, 0, mempool.DataRoom)
	require.ErrorIs(t, err, syscall.EEXIST)

	pool.Free()
	pool.Free()
	assert.Nil(t, pool.Ptr())
	pool, err = mempool.NewPktmbuf("test", 1023, 32, 0, mempool.DataRoom)
	require.NoError(t, err, "the name is free again")
	pool.Free()
}

func TestPoolsThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		name                     string
		n, cache, priv, dataRoom int
		err                      string
	}{
		{"negative", -1, 0, 0, 2048, "buffers -1 is not within 0..4294967295"},
		{"room", 10, 0, 0, 65536, "data room 65536 is not within 0..65535"},
		{"memory", 1 << 24, 0, 0, 2048, syscall.ENOMEM.Error()},
		{"cache", 10, 100000, 0, 2048, syscall.EINVAL.Error()},
		{"alignment", 10, 0, 3, 2048, syscall.EINVAL.Error()},
		{strings.Repeat("x", 100), 10, 0, 0, 2048, syscall.ENAMETOOLONG.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := mempool.NewPktmbuf(tt.name, tt.n, tt.cache, tt.priv, tt.dataRoom)
			assert.ErrorContains(t, err, tt.err)
		})
	}
}
