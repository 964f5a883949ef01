// SPDX-License-Identifier: Apache-2.0

// Package api is the JSON-RPC interface of dpservice as Go types: method names, parameters, results and errors.
// Server and client share it; it depends on nothing.
package api

// Version is the version of this interface, which system.info reports.
//
// The rule: raise it in the commit that changes the interface. MINOR when something is added that an older
// client can ignore: a method, an optional parameter, a field of a result, an error reason. MAJOR, and MINOR
// back to 0, when an older client would break: a method, parameter or result field is removed, renamed, gets
// another type or meaning, or a parameter becomes required.
const Version = "1.8"

// DefaultSocket is where the daemon listens unless it is told otherwise.
const DefaultSocket = "/run/dpservice/dpservice.sock"

// The methods.
const (
	MethodSystemInfo          = "system.info"
	MethodPortList            = "port.list"
	MethodPortStats           = "port.stats"
	MethodInterfaceCreate     = "interface.create"
	MethodInterfaceGet        = "interface.get"
	MethodInterfaceList       = "interface.list"
	MethodInterfaceDelete     = "interface.delete"
	MethodRouteAdd            = "route.add"
	MethodRouteList           = "route.list"
	MethodRouteDelete         = "route.delete"
	MethodFlowList            = "flow.list"
	MethodRuleList            = "rule.list"
	MethodGraphStats          = "graph.stats"
	MethodGraphDOT            = "graph.dot"
	MethodCaptureStart        = "capture.start"
	MethodCaptureStop         = "capture.stop"
	MethodCaptureStatus       = "capture.status"
	MethodCaptureCapabilities = "capture.capabilities"
)

// Methods are all methods.
var Methods = []string{
	MethodSystemInfo, MethodPortList, MethodPortStats,
	MethodInterfaceCreate, MethodInterfaceGet, MethodInterfaceList, MethodInterfaceDelete,
	MethodRouteAdd, MethodRouteList, MethodRouteDelete,
	MethodFlowList, MethodRuleList, MethodGraphStats, MethodGraphDOT,
	MethodCaptureStart, MethodCaptureStop, MethodCaptureStatus, MethodCaptureCapabilities,
}
