// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

// selection is what a command line selects to capture.
type selection struct {
	vfs  []string
	pfs  []int
	vnis vniList
	all  bool
}

// flags adds the flags that select.
func (s *selection) flags(a *app, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&s.vfs, "vf", nil, "ids of the guests' interfaces to capture")
	flags.Var(&s.vnis, "vni", "virtual networks of which to capture all interfaces that are here now")
	flags.BoolVar(&s.all, "all", false, "capture all interfaces that are here now")
	flags.IntSliceVar(&s.pfs, "pf", nil, "numbers of the physical ports to capture: what arrives there from the wire")
	complete(cmd, "vf", a.interfaceIDs)
	fixed(cmd, "pf", "0", "1")
}

// isEmpty reports whether nothing is selected.
func (s *selection) isEmpty() bool { return len(s.selectors()) == 0 }

// selectors is the selection as the API has it.
func (s *selection) selectors() []api.CaptureSelector {
	var all []api.CaptureSelector
	for _, id := range s.vfs {
		all = append(all, api.CaptureSelector{VF: id})
	}
	for _, vni := range s.vnis {
		all = append(all, api.CaptureSelector{VNI: &vni})
	}
	if s.all {
		all = append(all, api.CaptureSelector{All: true})
	}
	for _, number := range s.pfs {
		all = append(all, api.CaptureSelector{PF: &number})
	}
	return all
}

// pfName is how a physical port is named where an interface's id may stand.
var pfName = regexp.MustCompile(`^pf(\d)$`)

// add adds interfaces by their names, with commas between them.
func (s *selection) add(names string) {
	for name := range strings.SplitSeq(names, ",") {
		if match := pfName.FindStringSubmatch(name); match != nil {
			number, _ := strconv.Atoi(match[1]) // one digit
			s.pfs = append(s.pfs, number)
		} else {
			s.vfs = append(s.vfs, name)
		}
	}
}

// vniList is a flag of numbers with commas between them.
type vniList []uint32

func (l *vniList) Type() string { return "numbers" }

func (l *vniList) String() string {
	return strings.Join(each(*l, func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }), ",")
}

func (l *vniList) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is not the number of a virtual network", part)
		}
		*l = append(*l, uint32(n))
	}
	return nil
}
