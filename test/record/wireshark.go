// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"dpservice/test/topology"
)

// StripArgs returns the command line that removes the first n bytes of every frame in file, as users of a capture do.
func StripArgs(n int, file, stripped string) []string {
	return []string{"editcap", "-C", strconv.Itoa(n), "-F", "pcap", file, stripped}
}

// Strip removes the first n bytes of every frame in file with editcap and reads the result.
func Strip(ctx context.Context, lab *topology.Lab, n int, file, stripped string) ([]Frame, error) {
	if _, err := output(ctx, lab, StripArgs(n, file, stripped)...); err != nil {
		return nil, err
	}
	return readCut(stripped, n) // editcap does not change the stated length
}

// Fields returns the values of the named fields for every frame of file that matches tshark's display filter.
func Fields(ctx context.Context, lab *topology.Lab, file, filter string, fields ...string) ([][]string, error) {
	argv := []string{"tshark", "-n", "-r", file, "-Y", filter, "-T", "fields", "-E", "separator=|", "-E", "occurrence=f"}
	for _, f := range fields {
		argv = append(argv, "-e", f)
	}
	out, err := output(ctx, lab, argv...)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for line := range strings.Lines(out) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "|"))
	}
	return rows, nil
}

// headers are Wireshark's names of the protocols that the product and its peers make frames of, as the last in a frame.
const headers = "(^|:)(eth|ethertype|vlan|arp|ip|ipv6[^:]*|tcp|udp|icmp|icmpv6|vxlan|dhcp|dhcpv6)$"

// Malformed returns tshark's lines about frames in file with malformed headers. What a stream carries is left out: its
// port may be any, and Wireshark takes the bytes for the protocol that is registered there.
func Malformed(ctx context.Context, lab *topology.Lab, file string) (string, error) {
	return output(ctx, lab, "tshark", "-n", "-r", file, "-Y", `_ws.malformed and frame.protocols matches "`+headers+`"`)
}

// DissectArgs is the beginning of a command line of tshark with the dissector in script. Since 4.4 Wireshark runs no
// script that root names, so it runs as a user who may read root's files.
func DissectArgs(script string) []string {
	return []string{
		"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=+dac_override",
		"--ambient-caps=+dac_override", "tshark", "-X", "lua_script:" + script,
	}
}

func output(ctx context.Context, lab *topology.Lab, argv ...string) (string, error) {
	r, err := lab.Run(ctx, "", argv...)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return r.Stdout, nil
}
