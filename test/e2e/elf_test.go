// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"debug/elf"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dpservice/test/topology"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHardenedBinaries looks at what was built: at any address (PIE), with nothing writable that need not be once it is
// loaded (RELRO, BIND_NOW, no executable stack), and C code with its checks (stack protector, FORTIFY).
func TestHardenedBinaries(t *testing.T) {
	build, err := topology.BuildDir()
	require.NoError(t, err)
	for _, b := range []struct {
		name string
		hasC bool // of this project
	}{
		{"dpservice", true}, {"librte_net_eswitch.so", true}, {"dpctl", false}, {"demo", false},
	} {
		t.Run(b.name, func(t *testing.T) {
			f, err := elf.Open(filepath.Join(build, b.name))
			require.NoError(t, err)
			defer f.Close()
			flags := func(tag elf.DynTag) uint64 {
				values, err := f.DynValue(tag)
				require.NoError(t, err)
				return append(values, 0)[0]
			}
			assert.Equal(t, elf.ET_DYN, f.Type, "position-independent")
			assert.Equal(t, !strings.HasSuffix(b.name, ".so"), elf.DynFlag1(flags(elf.DT_FLAGS_1))&elf.DF_1_PIE != 0, "PIE")
			assert.NotZero(t, elf.DynFlag1(flags(elf.DT_FLAGS_1))&elf.DF_1_NOW, "BIND_NOW")
			assert.Zero(t, flags(elf.DT_TEXTREL), "no code is written to")
			relro, stack := segment(f, elf.PT_GNU_RELRO), segment(f, elf.PT_GNU_STACK)
			require.NotNil(t, relro, "RELRO")
			require.NotNil(t, stack)
			assert.Zero(t, stack.Flags&elf.PF_X, "no executable stack")
			got := f.Section(".got.plt")
			assert.True(t, got == nil || got.Addr >= relro.Vaddr && got.Addr+got.Size <= relro.Vaddr+relro.Memsz, "full RELRO")
			if !b.hasC {
				return
			}
			imported, err := f.ImportedSymbols()
			require.NoError(t, err)
			has := func(is func(name string) bool) bool {
				return slices.ContainsFunc(imported, func(s elf.ImportedSymbol) bool { return is(s.Name) })
			}
			assert.True(t, has(func(name string) bool { return name == "__stack_chk_fail" }), "stack protector")
			assert.True(t, has(func(name string) bool {
				return strings.HasPrefix(name, "__") && strings.HasSuffix(name, "_chk")
			}), "FORTIFY")
		})
	}
}

// TestGlobalSymbols looks at the names that this project's C code has in common with all that is linked or loaded
// beside it, DPDK above all: each has a prefix of ours, but for what libconnectx.so puts in the place of libc's and
// net_mlx5's own.
func TestGlobalSymbols(t *testing.T) {
	build, err := topology.BuildDir()
	require.NoError(t, err)
	for name, ours := range map[string]string{
		"dpservice":             `^(dps|rf)_`,
		"librte_net_eswitch.so": `^esw_`,
		"libconnectx.so":        `^(cx|esw)_|^ioctl$|^mlx5_(glue|nl_\w+)$`,
	} {
		t.Run(name, func(t *testing.T) {
			f, err := elf.Open(filepath.Join(build, name))
			require.NoError(t, err)
			defer f.Close()
			symbols, err := f.Symbols()
			require.NoError(t, err)
			var found int
			for _, s := range symbols {
				if elf.ST_BIND(s.Info) != elf.STB_GLOBAL || s.Section == elf.SHN_UNDEF || foreign.MatchString(s.Name) {
					continue
				}
				assert.Regexp(t, ours, s.Name)
				found++
			}
			assert.Greater(t, found, 20)
		})
	}
}

// foreign are the names that the linker, libc, Go, cgo and the macros of DPDK 25.11 define.
var foreign = regexp.MustCompile(`[./]|^_|^x_cgo_|crosscall[12]|^(main|data_start|fatalf)$|^this_pmd_name`)

// segment returns the first segment of a type; nil if there is none.
func segment(f *elf.File, t elf.ProgType) *elf.Prog {
	for _, p := range f.Progs {
		if p.Type == t {
			return p
		}
	}
	return nil
}
