/* SPDX-License-Identifier: Apache-2.0 */
/* The control side of the packet path: what Go calls. All return 0 or a negative errno unless
 * stated otherwise. */
#ifndef NODES_CONTROL_H
#define NODES_CONTROL_H

#include "dataplane.h"

struct dataplane_conf {
	struct rte_mempool *pool;
	const char *name;
	uint32_t flow_capacity;
	uint16_t nb_ports;
	uint16_t nb_workers;
	uint8_t offload;
	uint32_t punt_rate;                  /* frames a second of a port and kind */
	uint32_t punt_burst;                 /* frames */
	uint8_t node_ip[16];                 /* on the underlay */
	uint32_t timeouts_ms[FLOW_TIMEOUTS]; /* by TIMEOUT_... */
	struct port ports[RTE_MAX_ETHPORTS];
	uint32_t lcores[RTE_MAX_LCORE];
};

struct flow_share_counters {
	uint64_t flows;
	uint64_t evicted;
	uint64_t overflow;
};

struct flow_table {
	uint64_t flows;
	uint64_t capacity;
	uint64_t guaranteed;                           /* entries of each share */
	struct flow_share_counters shares[MAX_SHARES]; /* see struct flow_share */
};

struct node_stats {
	char name[64];
	uint64_t calls;
	uint64_t objs;
	uint64_t cycles;
};

/* NULL on error: then *error is a negative errno, and nothing stays allocated. */
struct dataplane *dps_dataplane_create(const struct dataplane_conf *conf, int *error);
/* The workers have been stopped. Closes no eventfd: Go has taken them over. */
void dps_dataplane_free(struct dataplane *dp);
int dps_dataplane_start(struct dataplane *dp);
void dps_dataplane_stop(struct dataplane *dp);
/* Waits until each worker has answered. */
int dps_dataplane_ping(struct dataplane *dp);
/* FLOW_TIMEOUTS of them, by TIMEOUT_... */
int dps_dataplane_set_timeouts(struct dataplane *dp, const uint32_t *timeouts_ms);

int dps_dataplane_set_iface(struct dataplane *dp, const struct iface *conf);
int dps_dataplane_delete_iface(struct dataplane *dp, uint16_t index);
int dps_dataplane_add_route(struct dataplane *dp, const struct route *r);
int dps_dataplane_delete_route(struct dataplane *dp, const struct route *r);
int dps_dataplane_set_uplink(struct dataplane *dp, const struct uplink *u);
int dps_dataplane_set_tunnel(struct dataplane *dp, const struct tunnel *t);

/* What becomes of flows: hardware forwards them, or no longer, or they end. */
enum flow_change { FLOW_CHANGE_ONLOAD, FLOW_CHANGE_OFFLOAD, FLOW_CHANGE_DELETE };

/* A result for each flow: 0, -ENOENT if there is no such flow, or -ETIMEDOUT if its worker has not
 * taken the change. */
void dps_dataplane_change_flows(struct dataplane *dp, enum flow_change change, const uint64_t *ids,
				int *results, uint32_t n);

/* Which packet a question is about: the next one of a flow, or any. Go does not align a struct
 * flow_key. */
struct question {
	uint64_t id; /* not 0: the flow's; the rest does not count */
	uint16_t port;
	uint16_t sport; /* host order; ICMP: type and code */
	uint16_t dport;
	uint8_t proto;
	bool ipv6;
	bool wire;
	uint8_t src[16]; /* IPv4 in the first four bytes */
	uint8_t dst[16];
	uint8_t outer[16]; /* wire: the outer destination */
	uint8_t peer[16];  /* and source; unspecified: the right one */
};

/* What the graph would do with the packet now. */
struct answer {
	bool known;       /* the flow table has its flow */
	bool stale;       /* by a verdict from before the last change of the configuration */
	bool offloadable; /* hardware could forward such a flow */
	uint8_t flow_flags;
	uint16_t mtu;          /* the largest IP packet that fits where it goes */
	char node[64];         /* where it would end; empty: it is forwarded */
	struct flow_info flow; /* as it is in the table */
	struct flow_info next; /* as the packet would make it */
};

/* -ENOENT: there is no flow with the id. -ENODEV: there is no such port. */
int dps_dataplane_explain(struct dataplane *dp, const struct question *q, struct answer *out);

/* Copy a port's packets from now on, or by these rules instead. All returned counters are sums over
 * the workers; those of a replaced or removed tap are its last. */
int dps_dataplane_set_tap(struct dataplane *dp, const struct tap_conf *conf,
			  const struct tap_condition *conditions, uint32_t nb_conditions,
			  struct tap_counters *replaced);
int dps_dataplane_remove_tap(struct dataplane *dp, uint16_t port, uint8_t side,
			     struct tap_counters *out);
int dps_dataplane_tap_counters(const struct dataplane *dp, uint16_t port, uint8_t side,
			       struct tap_counters *out);
/* The worker has been stopped. */
void dps_taps_free(struct worker *w);

/* Follow packets through the graph from now on. One trace at a time: -EEXIST. */
int dps_dataplane_start_trace(struct dataplane *dp, const struct trace_conf *conf,
			      const struct tap_condition *from_guest, uint32_t nb_from_guest,
			      const struct tap_condition *from_wire, uint32_t nb_from_wire);
/* What was not read is lost. -ENOENT: none runs. */
int dps_dataplane_stop_trace(struct dataplane *dp);
/* Up to max packets that have left the graph; returns their number. *missed is how many others
 * there were since the start, which matched but found the rate or the ring exceeded. */
uint32_t dps_dataplane_read_trace(struct dataplane *dp, struct trace_record *out, uint32_t max,
				  uint64_t *missed);
/* The worker has been stopped. */
void dps_trace_free(struct worker *w);

int dps_dataplane_inject(struct dataplane *dp, uint16_t port, const void *frame, uint32_t len);
/* Up to max punted frames, one behind the other in buf; returns their number. */
uint32_t dps_dataplane_read_punts(struct dataplane *dp, uint8_t *buf, uint32_t size,
				  uint16_t *ports, uint16_t *lens, uint32_t max);
uint32_t dps_dataplane_read_events(struct dataplane *dp, struct flow_info *out, uint32_t max);
/* Up to max flows from *cursor on, which moves; 0 is the beginning and the end. Returns their
 * number. */
uint32_t dps_dataplane_read_flows(const struct dataplane *dp, uint64_t *cursor,
				  struct flow_info *out, uint32_t max);
/* How many flows there are, by their state and whether hardware forwards them. */
void dps_dataplane_count_flows(const struct dataplane *dp, uint32_t counts[FLOW_STATES][2]);
/* The number of the configuration that packets are forwarded by. */
uint32_t dps_dataplane_generation(const struct dataplane *dp);
/* How full the flow tables are, summed over the workers. Shares are in the order of the ports:
 * first what a port's guest sends, then what comes to it from the wire. */
void dps_dataplane_flow_table(const struct dataplane *dp, struct flow_table *out);
/* Every node's counters, summed over the workers; returns the number of nodes, or -ENOSPC. */
int dps_dataplane_stats(const struct dataplane *dp, struct node_stats *out, uint32_t max);
/* Packets that were dropped, by DPDK port id and enum drop_reason, summed over the workers. */
void dps_dataplane_drops(const struct dataplane *dp, uint64_t out[RTE_MAX_ETHPORTS][DROP_REASONS]);
/* The graph in DOT, malloc'ed; NULL for want of memory. */
char *dps_dataplane_dot(const struct dataplane *dp);

#endif
