// SPDX-License-Identifier: Apache-2.0

package daemon

// The order of the locks. Whoever holds a lock takes only locks further down, and never two of one level unless it says
// so. While a package holds its lock it calls the parts that it was made with, but no function that a caller passes to
// one of its methods.
//
//	level 0  daemon.checking       one check of the machine at a time, for a report; programs run meanwhile
//	         keptNetworks.mu       one change of interfaces or routes and of their copy in the state at a time
//	         keptCaptures.changing one change of captures and of their copy in the state at a time; taken below
//	                               keptNetworks.mu when an interface is deleted
//	level 1  interfaces.changing   one creation or deletion of an interface at a time
//	level 2  capture.Manager.mu    the sessions and their history; released while a session waits for counters, and
//	                               while an interface is deleted: session.changing and a Deletion keep others out
//	level 3  vnet.Manager.mu       the interfaces and the routes; held while a route changes, which flows follow
//	level 4  flow.Manager.mu       the offloaded flows; released between the batches of a port's release, and of those
//	                               that leave an uplink: their flows stay in software
//	level 5  tunnel.Manager.mu     the tunnels and their marks
//	         trace.Manager.mu      the trace that runs
//	level 6  graph.Graph.mu        changes of the packet graph; readers share it
//	         ruleset.Set.mu        changes of the NIC's rules; readers of counters share it
//	level 7  nic.NIC.mu            which rules did not go through their port's proxy
//	         port linkMu           the state of a link as last read, one for each port
//	         uplink.Manager.mu     the links and the routers of the uplinks
//	         slowpath.SlowPath.mu  when guests were last asked, informed and warned about
//	         keptCaptures.mu       the captures as the state has them
//	         fence.Fence.mu        the panics so far
//	         flow rareLog.mu       when a warning was last logged
//	         recent.Lines.mu       the last lines of the log
//	         eal                   the state of EAL; its calls run on a thread of their own
//
// The RPC server holds none of its locks while a request is carried out: Server.mu guards the clients, hangups.mu the
// connections that are watched, and Stream.mu the deadlines of a connection.
