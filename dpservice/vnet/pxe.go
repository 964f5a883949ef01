// SPDX-License-Identifier: Apache-2.0

package vnet

import (
	"net/netip"
	"regexp"
	"strings"
)

// PXE is what a guest boots from over the network; the zero value is nothing.
type PXE struct {
	Server   string // TFTP server: an address or a host name; may be empty if Filename is a URL
	Filename string // on the server; or a whole URL, for guests that can boot from one
}

// Bounds of what fits into a guest's DHCP answers: a message's fields for server and file, with their terminating zero.
const (
	maxBootServer = 63
	maxBootFile   = 127
)

// hostName is a label or some, as RFC 1123 has them.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// fileName is a path or a URL: printable, without blanks.
var fileName = regexp.MustCompile(`^[!-~]+$`)

func (p PXE) valid() bool {
	if p == (PXE{}) {
		return true
	}
	return p.validServer() && fileName.MatchString(p.Filename) && len(p.Filename) <= maxBootFile
}

func (p PXE) validServer() bool {
	if p.Server == "" {
		return p.isURL()
	}
	_, err := netip.ParseAddr(p.Server)
	isHost := err == nil && !strings.Contains(p.Server, "%") || hostName.MatchString(p.Server)
	return isHost && len(p.Server) <= maxBootServer
}

func (p PXE) isURL() bool { return strings.Contains(p.Filename, "://") }

// ForIPv4 returns server and file for a guest that boots over IPv4. A server that is an IPv6 address is left out, and
// so is its file unless that is a URL.
func (p PXE) ForIPv4() (server, filename string) {
	if ip, err := netip.ParseAddr(p.Server); err != nil || ip.Is4() {
		return p.Server, p.Filename
	}
	if p.isURL() {
		return "", p.Filename
	}
	return "", ""
}

// IsHTTP reports whether a guest boots from an HTTP URL.
func (p PXE) IsHTTP() bool {
	return strings.HasPrefix(p.Filename, "http://") || strings.HasPrefix(p.Filename, "https://")
}

// URL is what a guest boots from over IPv6 (RFC 5970). It is empty if the file is on a server that has an IPv4 address.
func (p PXE) URL() string {
	if p == (PXE{}) || p.isURL() {
		return p.Filename
	}
	file := strings.TrimPrefix(p.Filename, "/")
	ip, err := netip.ParseAddr(p.Server)
	switch {
	case err != nil:
		return "tftp://" + p.Server + "/" + file
	case ip.Is4():
		return ""
	}
	return "tftp://[" + p.Server + "]/" + file
}
