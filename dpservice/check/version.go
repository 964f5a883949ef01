// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strconv"
	"strings"
)

// A fault is a known one of some versions of DPDK.
type fault struct {
	concerns func(dpdk, rdma release) bool
	level    Level
	text     string
	fix      string
}

// release is the numbers of a version, such as 22, 11, 10.
type release [3]int

// parseRelease reads the numbers that a version begins with, or that follow its first blank or colon ("DPDK 22.11.10",
// "1:44.0-2").
func parseRelease(text string) release {
	if i := strings.LastIndexAny(text, " :"); i >= 0 {
		text = text[i+1:]
	}
	text, _, _ = strings.Cut(text, "-")
	var r release
	for i, part := range strings.SplitN(text, ".", len(r)) {
		r[i], _ = strconv.Atoi(part)
	}
	return r
}

func (r release) before(o release) bool {
	for i := range r {
		if r[i] != o[i] {
			return r[i] < o[i]
		}
	}
	return false
}

// of reports whether the release is one of the series YEAR.MONTH, before its point release.
func (r release) of(year, month, before int) bool {
	return r[0] == year && r[1] == month && r[2] < before
}

// faults are those of docs/connectx.md that matter at the start.
var faults = []fault{
	{func(dpdk, _ release) bool { return dpdk.of(22, 11, 10) }, Failed,
		"the NIC's completions may come out of order (CVE-2025-23259)", "upgrade DPDK to 22.11.10 or later"},
	{func(dpdk, _ release) bool { return dpdk.of(22, 11, 11) || dpdk.of(24, 11, 4) }, Warning,
		"a race in the ageing of flows", "upgrade DPDK to 22.11.11, or 24.11.4, or later"},
	{func(dpdk, rdma release) bool {
		return dpdk[0] == 24 && dpdk[1] == 11 && rdma != (release{}) && rdma.before(release{50})
	}, Failed, "packets from the wire may be received twice",
		"upgrade rdma-core to 50 or later, or use the distribution's own DPDK"},
	{func(dpdk, _ release) bool { return dpdk[0] == 24 && dpdk[1] == 11 }, Note,
		"each port takes about a second to start", ""},
}

// versions looks for versions with known faults.
func (x *examination) versions() {
	const subject = "versions"
	rdmaText := x.installed("ibverbs-providers")
	dpdk, rdma := parseRelease(x.DPDK), parseRelease(rdmaText)
	found := false
	for _, f := range faults {
		if f.concerns(dpdk, rdma) {
			x.add(f.level, subject, f.fix, "%s, rdma-core %s: %s", x.DPDK, orNone(rdmaText), f.text)
			found = true
		}
	}
	if !found {
		x.ok(subject, "%s, rdma-core %s have no known fault that matters here", x.DPDK, orNone(rdmaText))
	}
}

func orNone(version string) string {
	if version == "" {
		return "not installed"
	}
	return version
}

// installed is the version of a Debian package; empty if it is not installed.
func (x *examination) installed(name string) string {
	text, _ := x.read("var/lib/dpkg/status")
	for _, paragraph := range strings.Split(text, "\n\n") {
		fields := "\n" + paragraph + "\n"
		if !strings.Contains(fields, "\nPackage: "+name+"\n") ||
			!strings.Contains(fields, "\nStatus: install ok installed\n") {
			continue
		}
		_, rest, _ := strings.Cut(fields, "\nVersion: ")
		version, _, _ := strings.Cut(rest, "\n")
		return version
	}
	return ""
}
