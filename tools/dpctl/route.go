// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dpservice/rpc/api"
)

func (a *app) routeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "route",
		Short:   "Manage the virtual networks' routes",
		Long:    "A route sends a prefix of a virtual network to the underlay address of the interface behind which it lies.",
		Example: "  dpctl route list",
	}
	cmd.AddCommand(a.routeAdd(), a.routeList(), a.routeDelete())
	return cmd
}

func (a *app) routeAdd() *cobra.Command {
	var p api.Route
	cmd := &cobra.Command{
		Use:     "add PREFIX --vni=N --next-hop-ip=IP [--next-hop-vni=N]",
		Short:   "Add a route",
		Example: "  dpctl route add 10.0.0.2/32 --vni=100 --next-hop-ip=fc00:2::8000:0:1",
		Args:    cobra.ExactArgs(1),
		RunE: command(a, api.MethodRouteAdd, func(args []string) (api.Route, error) {
			p.Prefix = args[0]
			if p.NextHopVNI == 0 {
				p.NextHopVNI = p.VNI
			}
			return p, nil
		}, view[api.Route]{
			table: func(w io.Writer, r api.Route) { writeRoutes(w, []api.Route{r}) },
			names: func(r api.Route) []string { return []string{routeName(r)} },
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.Uint32Var(&p.VNI, "vni", 0, "virtual network of the prefix (required)")
	flags.StringVar(&p.NextHopIP, "next-hop-ip", "",
		"underlay IPv6 address of the interface behind which the prefix lies (required)")
	flags.Uint32Var(&p.NextHopVNI, "next-hop-vni", 0, "virtual network of that interface (default: the value of --vni)")
	mandatory(cmd, "vni")
	mandatory(cmd, "next-hop-ip")
	return cmd
}

func (a *app) routeList() *cobra.Command {
	var vni uint32
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the routes",
		Example: `  dpctl route list
  dpctl route list --vni=100`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().Uint32Var(&vni, "vni", 0, "only those of this virtual network")
	cmd.RunE = command(a, api.MethodRouteList, func([]string) (api.RouteListParams, error) {
		return api.RouteListParams{VNI: given(cmd, "vni", &vni)}, nil
	}, view[api.RouteListResult]{
		table: func(w io.Writer, r api.RouteListResult) { writeRoutes(w, r.Routes) },
		names: func(r api.RouteListResult) []string { return each(r.Routes, routeName) },
	})
	return cmd
}

func (a *app) routeDelete() *cobra.Command {
	var p api.RouteDeleteParams
	cmd := &cobra.Command{
		Use:     "delete PREFIX --vni=N",
		Short:   "Delete a route",
		Example: "  dpctl route delete 10.0.0.2/32 --vni=100",
		Args:    cobra.ExactArgs(1),
		RunE: command(a, api.MethodRouteDelete, func(args []string) (api.RouteDeleteParams, error) {
			p.Prefix = args[0]
			return p, nil
		}, done("the route is deleted")),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().Uint32Var(&p.VNI, "vni", 0, "virtual network of the prefix (required)")
	mandatory(cmd, "vni")
	return cmd
}

func writeRoutes(w io.Writer, all []api.Route) {
	table(w, "VNI PREFIX NEXT-HOP-VNI NEXT-HOP-IP", each(all, func(r api.Route) []any {
		return []any{r.VNI, r.Prefix, r.NextHopVNI, r.NextHopIP}
	}))
}

func routeName(r api.Route) string { return fmt.Sprintf("%d:%s", r.VNI, r.Prefix) }
