// SPDX-License-Identifier: Apache-2.0

package check

import "dpservice/dpservice/access"

// access checks that the users and groups that rules of access name exist.
func (x *examination) access() {
	const subject = "access"
	if len(x.cfg.Access) == 0 {
		return
	}
	_, unknown := access.New(x.cfg.Access, x.Names)
	for _, err := range unknown {
		x.add(Warning, subject, "create it, or correct the rule; then systemctl reload dpservice",
			"%v: the rule lets nobody in by this name", err)
	}
	if len(unknown) == 0 {
		x.ok(subject, "%d rules, whose users and groups exist", len(x.cfg.Access))
	}
}
