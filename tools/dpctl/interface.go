// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

func (a *app) interfaceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "interface",
		Aliases: []string{"if"},
		Short:   "Manage the guests' interfaces",
		Long:    "An interface attaches a guest, behind a VF, to a virtual network.",
		Example: "  dpctl interface list",
	}
	cmd.AddCommand(a.interfaceCreate(), a.interfaceGet(), a.interfaceList(), a.interfaceDelete())
	return cmd
}

// oneInterface shows an interface.
var oneInterface = view[api.Interface]{
	table: func(w io.Writer, i api.Interface) { writeInterfaces(w, []api.Interface{i}) },
	names: func(i api.Interface) []string { return []string{i.ID} },
}

func (a *app) interfaceCreate() *cobra.Command {
	var p api.InterfaceCreateParams
	var pxe api.PXE
	cmd := &cobra.Command{
		Use:   "create ID --device=NAME --vni=N [--ipv4=IP] [--ipv6=IP] [--underlay-ip=IP] [--mac=MAC]",
		Short: "Create an interface",
		Long: `Create the interface ID for the guest behind the VF whose representor is the device. The underlay address is the
outer source of what the guest sends and the outer destination of what it gets. The guest learns its addresses by DHCP,
and what it boots from, if it is to boot over the network.`,
		Example: `  dpctl interface create vm-1 --device=net_eswitch0_representor_vf0 --vni=100 --ipv4=10.0.0.1 --ipv6=fd00::1`,
		Args:    cobra.ExactArgs(1),
		RunE: command(a, api.MethodInterfaceCreate, func(args []string) (api.InterfaceCreateParams, error) {
			p.ID = args[0]
			if pxe != (api.PXE{}) {
				p.PXE = &pxe
			}
			return p, nil
		}, oneInterface),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringVar(&p.Device, "device", "", "ethdev name of the VF's representor, see port list (required)")
	flags.Uint32Var(&p.VNI, "vni", 0, "virtual network, 1 to 16777215 (required)")
	flags.StringVar(&p.IPv4, "ipv4", "", "the guest's IPv4 address")
	flags.StringVar(&p.IPv6, "ipv6", "", "the guest's IPv6 address")
	flags.StringVar(&p.UnderlayIP, "underlay-ip", "", "underlay IPv6 address of the node's prefix (default: a free one)")
	flags.StringVar(&p.MAC, "mac", "", "the guest's MAC address (default: learned from the guest)")
	flags.StringVar(&p.Hostname, "hostname", "", "the host name that the guest is told (default: none)")
	flags.StringVar(&pxe.Server, "pxe-server", "",
		"TFTP server that the guest boots from, an address or a host name; not needed with a URL")
	flags.StringVar(&pxe.Filename, "pxe-filename", "", "what the guest boots: a file of the server's, or a URL")
	mandatory(cmd, "device")
	mandatory(cmd, "vni")
	cmd.MarkFlagsOneRequired("ipv4", "ipv6")
	complete(cmd, "device", a.portNames)
	return cmd
}

func (a *app) interfaceGet() *cobra.Command {
	return &cobra.Command{
		Use:               "get ID",
		Short:             "Show an interface",
		Example:           "  dpctl interface get vm-1",
		Args:              cobra.ExactArgs(1),
		RunE:              command(a, api.MethodInterfaceGet, interfaceID, oneInterface),
		ValidArgsFunction: first(a.interfaceIDs),
	}
}

func (a *app) interfaceList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the interfaces",
		Example: `  dpctl interface list
  dpctl -o name interface list`,
		Args: cobra.NoArgs,
		RunE: command(a, api.MethodInterfaceList, nil, view[api.InterfaceListResult]{
			table: func(w io.Writer, r api.InterfaceListResult) { writeInterfaces(w, r.Interfaces) },
			names: func(r api.InterfaceListResult) []string {
				return each(r.Interfaces, func(i api.Interface) string { return i.ID })
			},
		}),
	}
}

func (a *app) interfaceDelete() *cobra.Command {
	return &cobra.Command{
		Use:               "delete ID",
		Short:             "Delete an interface",
		Long:              "Delete an interface. Its flows leave the NIC with it.",
		Example:           "  dpctl interface delete vm-1",
		Args:              cobra.ExactArgs(1),
		RunE:              command(a, api.MethodInterfaceDelete, interfaceID, done("the interface is deleted")),
		ValidArgsFunction: first(a.interfaceIDs),
	}
}

// interfaceID returns the parameters of a method on one interface.
func interfaceID(args []string) (api.InterfaceID, error) { return api.InterfaceID{ID: args[0]}, nil }

// done shows that a method without a result succeeded.
func done(message string) view[api.Done] {
	return view[api.Done]{
		table: func(w io.Writer, _ api.Done) { fmt.Fprintln(w, message) },
		names: func(api.Done) []string { return nil },
	}
}

func writeInterfaces(w io.Writer, all []api.Interface) {
	table(w, "ID DEVICE VNI IPV4 IPV6 UNDERLAY-IP", each(all, func(i api.Interface) []any {
		return []any{i.ID, i.Device, i.VNI, i.IPv4, i.IPv6, i.UnderlayIP}
	}))
}
