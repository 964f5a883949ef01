// SPDX-License-Identifier: Apache-2.0

package vnet

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPXE(t *testing.T) {
	tests := map[string]struct {
		pxe    PXE
		valid  bool
		server string // for IPv4
		url    string // for IPv6
	}{
		"URL only":  {PXE{Filename: "http://boot.example/b"}, true, "", "http://boot.example/b"},
		"URL, IPv4": {PXE{"10.0.0.9", "http://boot.example/b"}, true, "10.0.0.9", "http://boot.example/b"},
		"URL, IPv6": {PXE{"fd00::9", "http://boot.example/b"}, true, "", "http://boot.example/b"},
		"nothing":   {PXE{}, true, "", ""},
		"IPv4":      {PXE{"10.0.0.9", "pxelinux.0"}, true, "10.0.0.9", ""},
		"IPv6":      {PXE{"fd00::9", "/boot.efi"}, true, "", "tftp://[fd00::9]/boot.efi"},
		"name":      {PXE{"boot.example", "a/b.efi"}, true, "boot.example", "tftp://boot.example/a/b.efi"},
		"URL":       {PXE{"boot.example", "http://boot.example/b"}, true, "boot.example", "http://boot.example/b"},
		"no file":   {PXE{Server: "10.0.0.9"}, false, "10.0.0.9", ""},
		"no server": {PXE{Filename: "x"}, false, "", "tftp:///x"},
		"blank":     {PXE{"10.0.0.9", "a b"}, false, "10.0.0.9", ""},
		"newline":   {PXE{"boot\n", "a"}, false, "boot\n", "tftp://boot\n/a"},
		"zone":      {PXE{"fe80::1%eth0", "a"}, false, "", "tftp://[fe80::1%eth0]/a"},
		"long file": {PXE{"10.0.0.9", strings.Repeat("a", 128)}, false, "10.0.0.9", ""},
		"long server": {PXE{strings.Repeat("a", 64), "a"}, false, strings.Repeat("a", 64),
			"tftp://" + strings.Repeat("a", 64) + "/a"},
		"longest file": {PXE{"10.0.0.9", strings.Repeat("a", 127)}, true, "10.0.0.9", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tt.valid, tt.pxe.valid())
			server, file := tt.pxe.ForIPv4()
			assert.Equal(t, tt.server, server)
			if tt.valid {
				assert.Equal(t, tt.server != "" || tt.pxe.isURL(), file != "", "no file of a server that is out of reach")
			}
			assert.Equal(t, tt.url, tt.pxe.URL())
		})
	}
}
