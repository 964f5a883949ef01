// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// receiveVXLAN captures again, with a filter in the NIC, VXLAN as encapsulation and dpctl as the sink. The file then
// contains the names of the VMs and the original frames.
func (d *demo) receiveVXLAN() error {
	heading("Only the pings, in VXLAN, with dpctl at the sink: a pcapng file with the VMs' names, and no headers to strip")
	file := d.net.Path("vxlan.pcapng")
	argv := []string{d.daemon.DpctlPath(), "--socket", d.daemon.Socket, "capture", "receive", "--encap=vxlan", "-w", file,
		"--packets=100"}
	command("%s &", d.net.Sink.CommandLine(argv...))
	p, err := d.net.Sink.Start(argv...)
	if err != nil {
		return err
	}
	if err := p.WaitOutput(d.ctx, p.Stderr, "receiving on"); err != nil {
		return err
	}
	if err := d.dpctl("capture", "start", "--sink-node-ip="+d.net.SinkIP.String(), "--udp-src-port=3000", "--encap=vxlan",
		"--vf="+d.vm1.ID+","+d.vm2.ID, fmt.Sprintf("--filter=icmp6 and host %s", d.vm2.IPv6)); err != nil {
		return err
	}
	r, err := p.Wait(d.ctx)
	if err != nil {
		return err
	}
	indent(r.Stderr)
	if err := r.Err(); err != nil {
		return err
	}
	if err := d.dpctl("capture", "status"); err != nil {
		return err
	}
	if err := d.dpctl("capture", "stop"); err != nil {
		return err
	}
	if err := d.show("tshark", "-n", "-r", file, "-c", "8", "-T", "fields", "-E", "header=y", "-E", "occurrence=f",
		"-e", "frame.interface_name", "-e", "frame.time_relative", "-e", "frame.len", "-e", "_ws.col.Info"); err != nil {
		return err
	}
	return d.show("capinfos", "-c", "-E", "-I", file)
}
