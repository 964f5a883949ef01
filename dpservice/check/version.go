// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strconv"
	"strings"
)

// A fault is a known fault of some versions of DPDK or rdma-core.
type fault struct {
	concerns func(dpdk, rdma release) bool
	level    Level
	text     string
	fix      string
}

// release is a version as numbers, such as 22, 11, 10.
type release [3]int

// parseRelease reads the numbers of a version, which may follow a name or an epoch ("DPDK 22.11.10", "1:44.0-2").
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

// of reports whether the release belongs to the series year.month, and precedes the point release `before`.
func (r release) of(year, month, before int) bool {
	return r[0] == year && r[1] == month && r[2] < before
}

// faults are the faults of docs/connectx.md that the checks report.
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

// versions checks whether the installed versions have known faults.
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

// installed returns the version of a Debian package; empty if it is not installed.
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
