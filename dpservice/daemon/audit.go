// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"

	"dpservice/capture/spec"
	"dpservice/dpservice/access"
	"dpservice/dpservice/audit"
)

// policy returns the rules of access of a configuration. The log names users and groups that do not exist.
func (d *daemon) policy(rules []access.Rule) *access.Policy {
	p, unknown := access.New(rules, access.SystemNames())
	for _, err := range unknown {
		d.log.Warn("a rule of access names somebody who does not exist", "err", err)
	}
	return p
}

func (d *daemon) openAudit() (err error) {
	if d.cfg.Audit == "" {
		return nil
	}
	if d.audit, err = audit.Open(d.cfg.Audit, d.log); err != nil {
		return err
	}
	d.cleanups.add("close the audit log", d.audit.Close)
	return nil
}

// vniOf finds the network of an interface; 0 if it is gone.
func (d *daemon) vniOf(id string) uint32 {
	i, err := d.vnet.Interface(id)
	if err != nil {
		return 0
	}
	return i.VNI
}

// captureEnded is called beneath the lock of the capture manager.
func (d *daemon) captureEnded(s spec.Session) {
	if kept, ok := d.captures.(*keptCaptures); ok {
		s = kept.whole(s)
	}
	d.audit.CaptureEnded(s, cmp.Or(string(s.EndReason), string(s.State)), d.vniOf)
}

// auditEnd writes down what the captures have copied that go on until the daemon ends.
func (d *daemon) auditEnd() {
	if d.audit == nil {
		return
	}
	sessions, _ := d.captures.Status()
	for _, s := range sessions {
		d.audit.CaptureEnded(s, audit.DaemonEnded, d.vniOf)
	}
}
