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
const Version = "2.6"

// DefaultSocket is the path of the daemon's socket unless another is configured.
const DefaultSocket = "/run/dpservice/dpservice.sock"

// Method is the name of a method of the API, with the types of its parameters and of its result.
type Method[Params, Result any] string

// Name implements AnyMethod.
func (m Method[Params, Result]) Name() string { return string(m) }

// AnyMethod is a method whatever its types.
type AnyMethod interface{ Name() string }

// RawMethod is a method by its name alone, which need not be one of the API.
type RawMethod string

// Name implements AnyMethod.
func (m RawMethod) Name() string { return string(m) }

// None are the parameters of a method that takes none.
type None struct{}

// Done is the result of a method that returns nothing: {}.
type Done struct{}

// The methods.
const (
	MethodSystemInfo          Method[None, SystemInfoResult]               = "system.info"
	MethodSystemAccess        Method[None, SystemAccessResult]             = "system.access"
	MethodSystemReport        Method[None, SystemReportResult]             = "system.report"
	MethodPortList            Method[None, PortListResult]                 = "port.list"
	MethodPortStats           Method[PortStatsParams, PortStatsResult]     = "port.stats"
	MethodInterfaceCreate     Method[InterfaceCreateParams, Interface]     = "interface.create"
	MethodInterfaceGet        Method[InterfaceID, Interface]               = "interface.get"
	MethodInterfaceList       Method[None, InterfaceListResult]            = "interface.list"
	MethodInterfaceDelete     Method[InterfaceID, Done]                    = "interface.delete"
	MethodRouteAdd            Method[Route, Route]                         = "route.add"
	MethodRouteList           Method[RouteListParams, RouteListResult]     = "route.list"
	MethodRouteDelete         Method[RouteDeleteParams, Done]              = "route.delete"
	MethodFlowList            Method[FlowListParams, FlowListResult]       = "flow.list"
	MethodFlowExplain         Method[FlowExplainParams, FlowExplainResult] = "flow.explain"
	MethodRuleList            Method[RuleListParams, RuleListResult]       = "rule.list"
	MethodGraphStats          Method[None, GraphStatsResult]               = "graph.stats"
	MethodGraphDOT            Method[None, GraphDOTResult]                 = "graph.dot"
	MethodTraceStart          Method[TraceStartParams, TraceStartResult]   = "trace.start"
	MethodTraceRead           Method[None, TraceReadResult]                = "trace.read"
	MethodTraceStop           Method[None, Done]                           = "trace.stop"
	MethodCaptureStart        Method[CaptureStartParams, CaptureSession]   = "capture.start"
	MethodCaptureStop         Method[CaptureStopParams, CaptureStopResult] = "capture.stop"
	MethodCaptureStatus       Method[None, CaptureStatusResult]            = "capture.status"
	MethodCaptureCapabilities Method[None, CaptureCapabilitiesResult]      = "capture.capabilities"
)

// Class says what a method is about. Rules of access in the daemon's configuration allow methods by their classes.
type Class string

// The classes.
const (
	ClassOwn        Class = "own" // shows only what concerns the caller: every client may call it
	ClassRead       Class = "read"
	ClassInterfaces Class = "interfaces"
	ClassRoutes     Class = "routes"
	ClassCaptures   Class = "captures"
)

// ClassifiedMethod is a method with its class.
type ClassifiedMethod struct {
	AnyMethod
	Class Class
}

// Methods are all methods.
var Methods = []ClassifiedMethod{
	{MethodSystemInfo, ClassRead},
	{MethodSystemAccess, ClassOwn},
	{MethodSystemReport, ClassRead},
	{MethodPortList, ClassRead},
	{MethodPortStats, ClassRead},
	{MethodInterfaceCreate, ClassInterfaces},
	{MethodInterfaceGet, ClassRead},
	{MethodInterfaceList, ClassRead},
	{MethodInterfaceDelete, ClassInterfaces},
	{MethodRouteAdd, ClassRoutes},
	{MethodRouteList, ClassRead},
	{MethodRouteDelete, ClassRoutes},
	{MethodFlowList, ClassRead},
	{MethodFlowExplain, ClassRead},
	{MethodRuleList, ClassRead},
	{MethodGraphStats, ClassRead},
	{MethodGraphDOT, ClassRead},
	{MethodTraceStart, ClassCaptures},
	{MethodTraceRead, ClassOwn},
	{MethodTraceStop, ClassOwn},
	{MethodCaptureStart, ClassCaptures},
	{MethodCaptureStop, ClassCaptures},
	{MethodCaptureStatus, ClassRead},
	{MethodCaptureCapabilities, ClassRead},
}
