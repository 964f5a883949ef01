/* SPDX-License-Identifier: Apache-2.0 */
/* The data that the nodes, the worker's loop and the control side share. */
#ifndef NODES_DATAPLANE_H
#define NODES_DATAPLANE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_config.h>
#include <rte_ether.h>
#include <rte_hash.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#include "atomic.h"

#define MAX_IFACES 2048u
#define MAX_ROUTES 16384u
#define MAX_UPLINKS 2u
#define MAX_TUNNELS 65536u /* a mark's last two bytes name one */
#define RX_BURST 64u
#define INJECT_BURST 64u
#define INJECT_RING 1024u
#define EVENT_RING 16384u
#define MAX_SHARES (2 * RTE_MAX_ETHPORTS)

#define PORT_NAME_SIZE 57u /* a node's name less "tap_rx-" */

#define TAP_MAX_RULES 256u
#define TAP_MAX_HEADER 70u

#define NO_IFACE UINT16_MAX
#define NO_SLOT UINT16_MAX

#define ETH_LEN 14u
#define IPV6_LEN 40u
#define OUTER_LEN (ETH_LEN + IPV6_LEN)

/* What a flow's packets have in common. Members that a kind of key has no use for are neither
 * hashed nor compared. The last 16 bytes are all of the key of a guest's IPv4 flow, and lie as the
 * headers of most packets do. */
struct flow_key {
	uint8_t outer[16]; /* from the wire: the outer destination, also where the NIC has removed
			      it */
	uint8_t src6[16];
	uint8_t dst6[16];
	uint8_t src4[4]; /* IPv6: zero, as dst4 */
	uint8_t dst4[4];
	uint16_t sport; /* network order; ICMP: type and code */
	uint16_t dport;
	uint16_t port; /* where the packets come in */
	uint8_t proto;
	uint8_t kind; /* KEY_... */
} __rte_aligned(16);

static_assert(sizeof(struct flow_key) == 64, "a cache line");

#define KEY_IPV6 0x1
#define KEY_WIRE 0x2   /* decapsulated from the wire, otherwise from a guest */
#define KEY_OPAQUE 0x4 /* a fragment, or ports that cannot be read */
#define KEY_NONE 0x8   /* of no packet */

enum verdict_kind { VERDICT_DELIVER, VERDICT_ENCAP };

/* All that is needed to forward a packet. It may lie at any even address: a flow has it where its
 * MACs end a cache line. */
struct verdict {
	uint8_t next;      /* edge out of the node that has found the flow */
	uint8_t from_peer; /* the packets come from the peer, or are not the flow's */
	uint16_t slot;     /* port to send to: its index in the graph's list */
	uint16_t mtu;      /* the largest IP packet that fits where it is to go */
	union {
		uint8_t header[OUTER_LEN]; /* replaces the packet's outer headers */
		struct {
			uint8_t eth[ETH_LEN]; /* all of the header of what comes from the wire */
			uint8_t peer[16];     /* the outer source: where the route to the inner
						 source leads */
		};
	};
	uint16_t iface; /* the guest's side of the flow */
	uint32_t vni;
	uint8_t kind;
	uint8_t header_len;
	uint8_t dec_ttl;
	uint8_t zero;
} __attribute__((__packed__)) __rte_aligned(2);

static_assert(sizeof(struct verdict) == 70, "verdicts are compared as a whole: no padding");

enum flow_state { FLOW_NEW, FLOW_ESTABLISHED, FLOW_CLOSING, FLOW_STATES };

/* How long an idle flow lasts: those of TCP by enum flow_state, then the other protocols'. */
enum { TIMEOUT_TCP, TIMEOUT_UDP = TIMEOUT_TCP + 3, TIMEOUT_ICMP, TIMEOUT_OTHER, FLOW_TIMEOUTS };

#define FLOW_USED 0x01
#define FLOW_CANDIDATE 0x02 /* hardware could forward it */
#define FLOW_PENDING 0x04   /* its verdict is to be announced */
#define FLOW_KNOWN 0x08     /* it was announced */
#define FLOW_OFFLOADED 0x10

/* One flow. All that a guest's IPv4 packet to another one touches is in the second line. It needs
 * the first one as well if it has IPv6, the third one if it is encapsulated, and both if it comes
 * from the wire. Only the worker writes. */
struct flow {
	_Atomic uint32_t seq; /* odd while key, id or verdict are being written */
	uint32_t hash;        /* of the key; of an unused entry: the next one, see flow.c */
	uint64_t id;
	struct flow_key key;
	uint64_t packets;
	_Atomic uint64_t last_seen; /* TSC */
	uint64_t bytes;
	uint32_t generation; /* of the configuration that the verdict is from */
	_Atomic uint8_t state;
	_Atomic uint8_t flags;
	struct verdict verdict;
	uint16_t share; /* that it counts to, see flow_share.h */
	uint32_t next;  /* in the share's list, plus one */
	uint32_t prev;
} __rte_aligned(64); /* also where DPDK takes cache lines to have 128 bytes: it would be padded */

static_assert(offsetof(struct flow, key.src4) == RTE_CACHE_LINE_MIN_SIZE &&
		      offsetof(struct flow, verdict.header) + 2 * RTE_ETHER_ADDR_LEN ==
			      2 * RTE_CACHE_LINE_MIN_SIZE,
	      "the second cache line has the IPv4 key and the MACs");
static_assert(sizeof(struct flow) == 192, "three cache lines");

/* Where to look for flows by the hash of their keys: one cache line. Zero: unused. */
#define BUCKET_SLOTS 8

struct flow_bucket {
	uint32_t hash[BUCKET_SLOTS];
	uint32_t ref[BUCKET_SLOTS]; /* index in the table, plus one */
} __rte_cache_aligned;

/* What one side of a port holds of the flow table: see flow_share.h. */
struct flow_share {
	_Atomic uint32_t flows;
	uint32_t first; /* of the list of its flows, plus one */
	uint32_t last;
	_Atomic uint64_t evicted;  /* flows removed to make room for another share's */
	_Atomic uint64_t overflow; /* packets for whose flows there was no room */
};

#define HASH_SECRETS 9

/* A flow's copy for the control side. That of a flow which has gone has no more than the id. */
struct flow_info {
	uint64_t id;
	uint64_t packets;
	uint64_t bytes;
	uint64_t idle_ns;
	uint32_t vni;
	uint16_t iface;
	uint16_t in_port;
	uint16_t tx_port;
	uint16_t share;
	uint16_t sport; /* host order */
	uint16_t dport;
	uint8_t event; /* enum flow_event */
	uint8_t wire;
	uint8_t ipv6;
	uint8_t proto;
	uint8_t state;
	uint8_t offloaded;
	uint8_t kind;
	uint8_t dec_ttl;
	uint8_t header_len;
	uint8_t src[16];
	uint8_t dst[16];
	uint8_t header[OUTER_LEN];
	uint8_t outer[16]; /* from the wire: struct flow_key's */
	uint8_t peer[16];
	uint8_t from_peer;
};

/* EVENT_RESOLVED: the workers have looked at all flows since the change of the configuration whose
 * generation is the id. */
enum flow_event { EVENT_NEW, EVENT_GONE, EVENT_RESOLVED };

struct iface {
	uint16_t index;
	uint16_t port;
	uint32_t vni;
	bool has_ipv4;
	bool has_ipv6;
	uint8_t ipv4[4];
	uint8_t ipv6[16];
	uint8_t underlay[16];
	uint8_t gateway_ipv6[16]; /* that routes */
	bool any_peer;            /* who sends to it from the wire is not checked */
	struct rte_ether_addr gateway_mac;
	struct rte_ether_addr guest_mac; /* zero: unknown */
};

struct route {
	uint32_t vni;
	uint8_t is_ipv6;
	uint8_t len;
	uint8_t addr[16];     /* host part zero */
	uint8_t next_hop[16]; /* underlay address */
};

/* What the NIC decapsulates under a mark: packets for an interface from one peer, or from any. */
struct tunnel {
	uint16_t mark;
	uint16_t iface;
	bool used;
	bool any_peer;
	uint8_t underlay[16]; /* the interface's: its index may have become another's */
	uint8_t peer[16];
};

struct uplink {
	uint16_t port;
	struct rte_ether_addr mac;
	struct rte_ether_addr router_mac; /* zero: unknown */
	bool link_up;
};

/* Which of a port's packets a tap copies: those that come in by it, those that go out, or those
 * that are dropped: see dps_drop_port. */
enum tap_side { TAP_RX, TAP_TX, TAP_DROPS, TAP_SIDES };

/* X(NAME, name) for each reason to drop a packet. The order is that of wire.DropReason in Go. Sinks
 * know the numbers: new ones come last. */
#define DROP_REASON_LIST(X)                                                                        \
	X(MALFORMED, malformed)       /* a header that is cut short or contradicts itself */       \
	X(NO_INTERFACE, no_interface) /* from a port without an interface */                       \
	X(NOT_FOR_US, not_for_us)     /* to another's MAC; on the wire, ICMPv6 about another's */  \
	X(MULTICAST, multicast)       /* to a group, in Ethernet or IP, and for no slow path */    \
	X(MARTIAN_SOURCE, martian_source) /* from the wire, by a source that no router forwards    \
					     from, or as the gateway */                            \
	X(UNSPECIFIED, unspecified) /* to addresses that no router forwards to: 0.0.0.0 or ::, */  \
	X(LOOPBACK, loopback)       /* 127.0.0.0/8 or ::1, */                                      \
	X(LINK_LOCAL, link_local)   /* 169.254.0.0/16 or fe80::/10, */                             \
	X(BROADCAST, broadcast)     /* 255.255.255.255, */                                         \
	X(RESERVED, reserved)       /* 0.0.0.0/8, 240.0.0.0/4 or ::ffff:0:0/96 */                  \
	X(TO_GATEWAY, to_gateway)   /* to the guests' gateway, which answers no such packet */     \
	X(TAGGED, tagged)           /* in a VLAN: there is none here, see node_remove_priority */  \
	X(UNSUPPORTED, unsupported) /* from a guest: neither IP nor ARP; on the wire: neither IP   \
				       in IPv6 nor such ICMPv6 as is for the slow path */          \
	X(SPOOFED, spoofed)         /* a guest used a source address that is not its own */        \
	X(WRONG_PEER, wrong_peer) /* the outer source is not where the route to the inner leads */ \
	X(LOCAL_SOURCE, local_source) /* from the wire, with the inner source of an interface of   \
					 this node */                                              \
	X(NO_ROUTE, no_route)         /* no route, or one that does not lead to this interface */  \
	X(NO_NEIGHBOUR, no_neighbour) /* the guest's or the router's MAC is not known yet */       \
	X(UNKNOWN_UNDERLAY, unknown_underlay) /* outer destination is no interface's underlay      \
						 address */                                        \
	X(UNKNOWN_MARK, unknown_mark) /* decapsulated by the NIC by a tunnel that is gone */       \
	X(TTL, ttl)                   /* time to live, or hop limit, is used up */                 \
	X(TOO_BIG, too_big)           /* does not fit the MTU where it is to go */                 \
	X(NO_HEADROOM, no_headroom)   /* no room for the outer header in the buffer */             \
	X(TX, tx)                     /* the port did not take it */                               \
	X(PUNT_FULL, punt_full)       /* the slow path does not keep up */                         \
	X(PUNT_RATE, punt_rate)       /* for the slow path, more than a port may leave of a kind */

#define DROP_REASON_ENUM(NAME, name) DROP_##NAME,
enum drop_reason { DROP_REASON_LIST(DROP_REASON_ENUM) DROP_REASONS };
#undef DROP_REASON_ENUM

/* X(name, member of union tap_key) for each field that a rule of a tap can match. The order is that
 * of wire.Field in Go. */
#define TAP_FIELD_LIST(X)       \
	X(ETH_DST, eth_dst)     \
	X(ETH_SRC, eth_src)     \
	X(TAGGED, tagged)       \
	X(ETHER_TYPE, eth_type) \
	X(VLAN_TCI, vlan_tci)   \
	X(VLAN_TYPE, vlan_type) \
	X(PROTO, proto)         \
	X(TOS, tos)             \
	X(TTL, ttl)             \
	X(FRAGMENT, fragment)   \
	X(SRC, src)             \
	X(DST, dst)             \
	X(L4, l4)               \
	X(SRC_PORT, src_port)   \
	X(DST_PORT, dst_port)   \
	X(TCP_FLAGS, tcp_flags) \
	X(ICMP_TYPE, icmp_type) \
	X(ICMP_CODE, icmp_code)

#define TAP_FIELD_ENUM(name, member) TAP_##name,
enum tap_field { TAP_FIELD_LIST(TAP_FIELD_ENUM) TAP_FIELDS };
#undef TAP_FIELD_ENUM

/* What a tap is made of. */
struct tap_conf {
	uint16_t port;
	uint16_t out;
	uint8_t side; /* enum tap_side */
	bool inner;
	uint16_t header_len;
	uint16_t nb_rules;
	uint8_t header[TAP_MAX_HEADER];
	bool sample[TAP_MAX_RULES];
};

/* A field's bytes, which come first, in network order, of the packets that a rule is about. */
struct tap_condition {
	uint16_t rule;
	uint8_t field; /* enum tap_field */
	uint8_t value[16];
	uint8_t mask[16];
};

struct tap_count {
	uint64_t packets;
	uint64_t bytes;
};

/* Where a traced packet comes in: its guest's port, or the wire in a tunnel. */
enum trace_side { TRACE_GUEST, TRACE_WIRE, TRACE_SIDES };

/* Whose packets a trace follows. */
struct trace_conf {
	uint16_t port;  /* of the guest */
	uint16_t iface; /* index */
	uint8_t underlay[16];
	bool drops;                     /* only packets that are dropped */
	uint16_t nb_rules[TRACE_SIDES]; /* 0: no packets of that side */
	bool sample[TRACE_SIDES][TAP_MAX_RULES];
};

#define TRACE_HOPS 16u
#define TRACE_SNAP 256u

/* A node that a packet visited. Times are TSC cycles since the packet was taken in. */
struct trace_hop {
	uint32_t node; /* id */
	uint32_t begin;
	uint32_t end;
	uint32_t burst; /* packets that the node had in hand */
};

/* What a trace tells of a packet. */
struct trace_record {
	uint64_t time_ns; /* since 1970 */
	uint32_t len;     /* of the frame as it came in */
	uint16_t port;    /* where it came in */
	uint16_t snap;    /* bytes of it that are here */
	uint16_t nb_hops;
	bool cut; /* it visited more nodes */
	bool wire;
	bool has_flow;
	uint8_t flow_flags; /* FLOW_... */
	struct trace_hop hops[TRACE_HOPS];
	struct flow_info flow; /* by which it was forwarded */
	uint8_t frame[TRACE_SNAP];
};

/* The first nb_rules of rules count. */
struct tap_counters {
	uint16_t nb_rules;
	uint64_t oversize;
	uint64_t no_buffer;
	struct tap_count rules[TAP_MAX_RULES];
};

/* A DPDK port of the graph. */
struct port {
	uint16_t id;
	bool vf;
	uint16_t pf;  /* number of the uplink */
	uint16_t mtu; /* 0: as the device says */
	char name[PORT_NAME_SIZE];
};

/* A port as a worker's packet path sees it, by DPDK port id. */
struct port_state {
	uint16_t slot;  /* NO_SLOT: not in the graph */
	uint16_t iface; /* VF: the interface on it, or NO_IFACE */
	bool vf;
	bool marks; /* the NIC may have decapsulated what comes in, and then marks it: see mark.h */
	uint16_t mtu;
	struct rte_ether_addr mac;       /* what a frame for us is addressed to */
	struct rte_ether_addr guest_mac; /* the interface's */
	rte_be16_t ipv4;                 /* that type: the last three lie as in a frame */
};

static_assert(offsetof(struct port_state, ipv4) ==
		      offsetof(struct port_state, mac) + 2 * RTE_ETHER_ADDR_LEN,
	      "mac, guest_mac and ipv4 are the header of most of a guest's frames");

/* What a packet is to the slow path. Each kind has a budget of its own on each port, so that a
 * flood of one, pings say, holds up no other. */
enum punt_kind {
	PUNT_NEIGHBOURS,   /* ARP, neighbour solicitations and advertisements */
	PUNT_ROUTERS,      /* router solicitations of guests; what routers of the underlay answer */
	PUNT_KNOWN_ROUTER, /* both of these, from the MAC of the uplink's router */
	PUNT_ECHO,         /* requests */
	PUNT_OTHER,        /* DHCP, a guest's frames from another MAC */
	PUNT_KINDS,
};

struct tap;
struct trace;

struct dataplane;
struct node_ctx;
struct request;

/* A worker and its tables. Only the worker's thread uses them while it runs; the control side sends
 * it requests. */
struct worker {
	/* packet path */
	struct flow *none;  /* the entry before the table's: no packet's flow */
	struct flow *flows; /* capacity entries, then the spare ones of packets that found the table
			       full */
	struct flow_bucket *buckets;
	uint32_t bucket_mask;
	uint64_t secrets[HASH_SECRETS]; /* what guests must not guess: they choose most of the keys
					 */
	uint64_t now;                   /* TSC at the walk's beginning */
	uint32_t generation;
	uint32_t capacity;
	uint32_t nb_spare;
	uint32_t next_spare;
	uint32_t work; /* packets taken in since the worker last looked */
	uint16_t index;
	bool wake_punts;
	bool wake_events;
	bool offload;
	struct port_state ports[RTE_MAX_ETHPORTS];

	/* forwarding tables */
	struct iface *ifaces;           /* by index; vni 0: unused */
	struct tunnel *tunnels;         /* by mark */
	struct rte_hash *addr_hash;     /* struct addr_key -> interface index */
	struct rte_hash *underlay_hash; /* underlay address -> interface index */
	struct rte_hash *route_hash;    /* struct addr_key -> position in next_hops */
	uint8_t (*next_hops)[16];
	uint32_t route_lens[2][129];        /* routes of each prefix length, per family */
	struct uplink uplinks[MAX_UPLINKS]; /* where encapsulated packets leave, by number; all
					       zero: not there */

	struct tap *_Atomic taps[RTE_MAX_ETHPORTS]
				[TAP_SIDES]; /* by DPDK port id; NULL: nothing is copied */
	struct node_ctx *tap_points[RTE_MAX_ETHPORTS]
				   [TAP_SIDES]; /* of the nodes rx and tx, which lead to the taps;
						   drop nodes look at taps themselves: NULL */
	_Atomic uint64_t drops[RTE_MAX_ETHPORTS]
			      [DROP_REASONS]; /* packets, by DPDK port id: see dps_drop_port */

	/* flow table's upkeep */
	uint32_t first_free; /* a list of entries that were used, by their hash fields; plus one */
	_Atomic uint32_t nb_touched; /* entries from here on have never been used */
	_Atomic uint32_t nb_flows;
	uint32_t guaranteed; /* entries of each share */
	struct flow_share shares[MAX_SHARES];
	uint64_t *gone; /* a ring of capacity ids: flows that have ended, of which the control side
			   does not know yet */
	uint32_t gone_first;
	uint32_t nb_gone;
	uint32_t sweep_at;
	uint32_t sweep_stale;      /* entries to look at soon: the configuration has changed */
	_Atomic uint32_t resolved; /* the generation by which all flows were looked at */
	bool tell_resolved;        /* the control side is to know */
	uint64_t next_sweep;
	uint64_t timeouts[FLOW_TIMEOUTS]; /* TSC */
	uint32_t serial;

	/* control */
	struct dataplane *dp;
	struct rte_graph *graph;
	struct trace *trace;             /* NULL: none runs */
	struct request *_Atomic request; /* of the control side; NULL: none, or it was taken */
	unsigned int lcore;
	bool running; /* written by the control side */
	atomic_bool stop;
} __rte_cache_aligned;

/* The whole: workers, and what they share. */
struct dataplane {
	struct rte_mempool *pool;
	struct rte_ring *punts; /* mbufs to the slow path, with room for every share */
	uint64_t punt_interval; /* TSC between the punts of a port and kind at their rate */
	uint32_t punt_burst;    /* punts of a port and kind at once, and their share of the ring */
	_Atomic uint32_t
		punts_waiting[RTE_MAX_ETHPORTS][PUNT_KINDS]; /* in the ring, by DPDK port id */
	_Atomic uint64_t punt_full[RTE_MAX_ETHPORTS]
				  [PUNT_KINDS];      /* buckets, by DPDK port id: see bucket.h */
	uint8_t node_ip[16];                         /* on the underlay */
	_Atomic uint64_t errors_full[MAX_IFACES][2]; /* for icmp_*: by interface, and whether the
						packet came from the wire */
	struct rte_ring *inject; /* mbufs from the slow path, taken by the first worker */
	struct rte_ring *events; /* struct flow_info by value */
	uint32_t event_share; /* flows of each share that may be in there when it is half full; as
				 many entries are for those that have gone */
	_Atomic uint32_t events_waiting[MAX_SHARES]; /* flows in there, by share */
	struct rte_ring *traced;     /* struct trace_record by value; NULL: no trace runs */
	_Atomic uint64_t trace_full; /* a bucket, see bucket.h */
	int punt_fd;                 /* eventfds: something is in the ring */
	int event_fd;
	uint16_t nb_ports;
	uint16_t nb_workers;
	struct port ports[RTE_MAX_ETHPORTS];
	struct worker *workers[RTE_MAX_LCORE];
};

/* NULL: it is none of the graph's. */
static inline const struct port *
port_by_id(const struct dataplane *dp, uint16_t id)
{
	uint16_t i;

	for (i = 0; i < dp->nb_ports; i++)
		if (dp->ports[i].id == id)
			return &dp->ports[i];
	return NULL;
}

/* What a node keeps for each worker, in rte_node.ctx. */
struct node_ctx {
	struct worker *w;
	uint16_t port;
	uint16_t queue;
	bool tapped; /* rx and tx: the packets go through the port's tap */
};

/* What travels with a packet. The RX hash is of no use once the packet is in the graph: its place
 * is taken. A write costs some cycles of each packet where the step of a node has none yet: what
 * only flow_lookup needs is not here, and it writes in its last step. */
struct pkt_meta {
	uint32_t flow;
	uint8_t l3; /* offset of the IP header that is being forwarded */
	union {
		uint8_t punt_kind;   /* enum punt_kind, of a packet for the slow path */
		uint8_t drop_reason; /* enum drop_reason, of a packet for tap_drop */
	};
	uint8_t record; /* while a trace runs: see trace.h */
};

static_assert(sizeof(struct pkt_meta) <= sizeof(((struct rte_mbuf *)0)->hash),
	      "fits in place of the hash");

static inline struct pkt_meta *
pkt_meta(struct rte_mbuf *m)
{
	return (struct pkt_meta *)&m->hash;
}

/* The edges that flow_lookup, flow_route and flow_overflow have in common; a verdict's next is one
 * of them. */
enum { NEXT_DELIVER, NEXT_ENCAP, NEXT_DECAP, NEXT_FORWARDS };

#endif
