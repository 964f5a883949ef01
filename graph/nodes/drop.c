/* SPDX-License-Identifier: Apache-2.0 */
/* drop_*: the end of a packet. One node for each reason, so that each has its own counter. */
#include "node.h"

static uint16_t
drop_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb_objs)
{
	RTE_SET_USED(graph);
	RTE_SET_USED(node);
	rte_pktmbuf_free_bulk((struct rte_mbuf **)objs, nb_objs);
	return nb_objs;
}

#define DROP_NODE(reason)                                                            \
	static struct rte_node_register drop_##reason = { .name = "drop_" #reason,   \
							  .process = drop_process }; \
	RTE_NODE_REGISTER(drop_##reason)

DROP_NODE(malformed);      /* a header that is cut short or contradicts itself */
DROP_NODE(no_interface);   /* from a port without an interface */
DROP_NODE(not_for_us);     /* to another's Ethernet address; on the wire, ICMPv6 about another's */
DROP_NODE(multicast);      /* to a group, in Ethernet or IP, and for no slow path */
DROP_NODE(martian_source); /* from the wire, by a source that no router forwards from, or as the
			      gateway */
DROP_NODE(unspecified);    /* to addresses that no router forwards to: 0.0.0.0 or ::, */
DROP_NODE(loopback);       /* 127.0.0.0/8 or ::1, */
DROP_NODE(link_local);     /* 169.254.0.0/16 or fe80::/10, */
DROP_NODE(broadcast);      /* 255.255.255.255, */
DROP_NODE(reserved);       /* 0.0.0.0/8, 240.0.0.0/4 or ::ffff:0:0/96 */
DROP_NODE(to_gateway);     /* to the guests' gateway, which answers no such packet */
DROP_NODE(tagged);         /* in a VLAN: there is none here, see node_remove_priority */
DROP_NODE(unsupported);    /* from a guest: neither IP nor ARP; on the wire: neither IP in IPv6 nor
			      such ICMPv6 as is for the slow path */
DROP_NODE(spoofed);        /* a guest used a source address that is not its own */
DROP_NODE(wrong_peer);     /* the outer source is not where the route to the inner one leads */
DROP_NODE(local_source);   /* from the wire, with the inner source of an interface of this node */
DROP_NODE(no_route);       /* no route, or one that does not lead to this interface */
DROP_NODE(no_neighbour);   /* the guest's or the router's MAC is not known yet */
DROP_NODE(unknown_underlay); /* outer destination is no interface's underlay address */
DROP_NODE(unknown_mark);     /* decapsulated by the NIC by a tunnel that is not there any more */
DROP_NODE(ttl);              /* time to live, or hop limit, is used up */
DROP_NODE(too_big);          /* does not fit the MTU where it is to go */
DROP_NODE(no_headroom);      /* no room for the outer header in the buffer */
DROP_NODE(tx);               /* the port did not take it */
DROP_NODE(punt_full);        /* the slow path does not keep up */
DROP_NODE(punt_rate); /* for the slow path, and more than the port may leave to it of that kind */
DROP_NODE(copy_too_big); /* a tap's copy that does not fit the uplink; it has no bytes any more */
