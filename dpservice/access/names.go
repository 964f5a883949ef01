// SPDX-License-Identifier: Apache-2.0

package access

import (
	"fmt"
	"os/user"
	"strconv"
)

// Names finds the numbers of users and groups by their names.
type Names struct {
	UID, GID func(name string) (uint32, error)
}

// SystemNames are those of the machine.
func SystemNames() Names {
	return Names{
		UID: func(name string) (uint32, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return 0, fmt.Errorf("user %q: %w", name, err)
			}
			return number(u.Uid)
		},
		GID: func(name string) (uint32, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return 0, fmt.Errorf("group %q: %w", name, err)
			}
			return number(g.Gid)
		},
	}
}

func number(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	return uint32(n), err
}

// UserName returns the name of a user, and none if the machine does not know the user.
func UserName(uid uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return ""
	}
	return u.Username
}
