/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_UNIT_NIC_H
#define ESW_UNIT_NIC_H

#include <rte_flow.h>

#include "../eswitch.h"
#include "frame.h"

/* A NIC in this process. Its far sides are rings that the test holds the other ends of. */
enum { PF0, PF1, VF0, VF3, NIC_PORTS };

struct nic {
	uint16_t port[NIC_PORTS];
	struct esw_port *esw[NIC_PORTS];
	uint16_t far[NIC_PORTS];
	struct rte_ring *in[NIC_PORTS];  /* to the far side */
	struct rte_ring *out[NIC_PORTS]; /* what came out of it */
	struct rte_mempool *pool;
};

extern struct nic nic;

/* To be set before nic_setup: EAL has its telemetry. */
extern bool nic_telemetry;

/* Likewise: devargs besides the ports. */
extern const char *nic_devargs;

/* Group fixtures: EAL and a NIC whose ports are started. */
int nic_setup(void **state);
int nic_teardown(void **state);

/* Test fixture: no rules, no packets, counters at 0, ports started. */
int nic_clean(void **state);

/* Puts a frame into a far side and waits until the NIC has dealt with it. */
void nic_arrive(int port, const struct frame *f);

/* The same with an mbuf that the test has made, which is the NIC's from then on. */
void nic_arrive_mbuf(int port, struct rte_mbuf *m);

/* The same with up to ESW_BURST frames, which the NIC takes in at once. */
void nic_arrive_together(int port, const struct frame *f, uint32_t n);

/* The next frame that came out of a far side, or that the application received; len is 0 when there
 * is none. */
struct frame nic_left(int port);
struct frame nic_received(int port);

void nic_assert_left(int port, const struct frame *f);
void nic_assert_received(int port, const struct frame *f);
void nic_assert_quiet(void);

void nic_send(int port, const struct frame *f);
uint64_t nic_stat(int port, const char *name);

/* Asks DPDK's telemetry, if there is; the answer stays until the next. */
const char *nic_ask(const char *command);

/* Rules. Arguments in the order a rule is written. */
extern const struct rte_flow_attr ingress, transfer;
struct rte_flow_attr transfer_group(uint32_t group);
struct rte_flow *nic_rule(int port, struct rte_flow_attr attr, const struct rte_flow_item *items,
			  const struct rte_flow_action *actions);
void nic_destroy(int port, struct rte_flow *flow);

/* An IPv6 address's first bytes. */
#if RTE_VERSION >= RTE_VERSION_NUM(24, 11, 0, 0)
#define ADDR6(...)                   \
	{                            \
		.a = { __VA_ARGS__ } \
	}
#else
#define ADDR6(...)          \
	{                   \
		__VA_ARGS__ \
	}
#endif

#define ITEM(t, ...)                                          \
	{                                                     \
		.type = RTE_FLOW_ITEM_TYPE_##t, ##__VA_ARGS__ \
	}
#define ITEMS(...) ((const struct rte_flow_item[]){ __VA_ARGS__ __VA_OPT__(, ) ITEM(END) })
#define ACTION(t, ...)                                          \
	{                                                       \
		.type = RTE_FLOW_ACTION_TYPE_##t, ##__VA_ARGS__ \
	}
#define ACTIONS(...) ((const struct rte_flow_action[]){ __VA_ARGS__ __VA_OPT__(, ) ACTION(END) })

#define CONF(type, ...)                                \
	.conf = &(const struct rte_flow_action_##type) \
	{                                              \
		__VA_ARGS__                            \
	}
#define TO(p) ACTION(REPRESENTED_PORT, CONF(ethdev, .port_id = nic.port[p]))
#define TO_ID(p) ACTION(PORT_ID, CONF(port_id, .id = nic.port[p]))
#define JUMP(g) ACTION(JUMP, CONF(jump, .group = (g)))
#define QUEUE(q) ACTION(QUEUE, CONF(queue, .index = (q)))
/* Without ACTION and ACTIONS, since it may be an argument of these. */
#define SAMPLE(r, ...)                                                            \
	{                                                                         \
		.type = RTE_FLOW_ACTION_TYPE_SAMPLE,                              \
		.conf = &(const struct rte_flow_action_sample)                    \
		{                                                                 \
			.ratio = (r), .actions = (const struct rte_flow_action[]) \
			{                                                         \
				__VA_ARGS__ __VA_OPT__(, )                        \
				{                                                 \
					.type = RTE_FLOW_ACTION_TYPE_END          \
				}                                                 \
			}                                                         \
		}                                                                 \
	}
#define ENCAP(bytes, n) \
	ACTION(RAW_ENCAP, CONF(raw_encap, .data = (uint8_t *)(uintptr_t)(bytes), .size = (n)))
#define DECAP(n) ACTION(RAW_DECAP, CONF(raw_decap, .size = (n)))
#define AGE(s) ACTION(AGE, CONF(age, .timeout = (s)))

/* Ethernet + IPv6 + UDP, 62 bytes, as a capture's; lengths 0. And Ethernet + IPv6, 54 bytes, and
 * Ethernet, 14. */
extern const uint8_t udp_header[62], ip_header[54], eth_header[14];

#endif
