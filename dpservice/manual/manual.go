// SPDX-License-Identifier: Apache-2.0

// Package manual writes the manual pages of a program from its commands.
package manual

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Command returns a hidden command that writes a page for each command of the program it is added to, all in one
// section of the manual: "1" for users' programs, "8" for the administrator's. Where SOURCE_DATE_EPOCH is set, it dates
// the pages.
func Command(section string) *cobra.Command {
	return &cobra.Command{
		Use:     "man FOLDER",
		Short:   "Write the manual pages into a folder",
		Example: "  man /usr/local/share/man/man" + section,
		Hidden:  true,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: section, Source: "dpservice", Manual: "dpservice"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			return nil
		},
	}
}
