/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ESW_ESWITCH_H
#define ESW_ESWITCH_H

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/queue.h>

#include <bus_vdev_driver.h>
#include <ethdev_driver.h>
#include <rte_flow_driver.h>
#include <rte_rcu_qsbr.h>
#include <rte_ring.h>

#include "../../graph/nodes/atomic.h"
#include "compat.h"
#include "fault.h"
#include "log.h"
#include "match.h"
#include "rewrite.h"

#define ESW_MAX_VFS 64
#define ESW_MAX_PORTS (ESW_MAX_VFS + 2)
#define ESW_MAX_VF_ID 4095
#define ESW_MAX_QUEUES 8 /* has to fit struct esw_rss */
#define ESW_BURST 32

#define ESW_MAX_DESCS 4096
#define ESW_MAX_FAULT_ARGS 512

struct esw_nic;
struct esw_port;

enum esw_kind { ESW_PF0, ESW_PF1, ESW_VF };

/* The cards whose driver answers differently. */
enum esw_card { ESW_CX5, ESW_CX6DX, ESW_CX7 };

/* What a port counts, in the order of its xstats. Their names are in stats.c. */
enum esw_stat {
	ESW_STAT_FAR_RX_PACKETS,
	ESW_STAT_FAR_RX_BYTES,
	ESW_STAT_FAR_TX_PACKETS,
	ESW_STAT_FAR_TX_BYTES,
	ESW_STAT_FAR_TX_ERRORS,
	ESW_STAT_HITS,
	ESW_STAT_MISSES,
	ESW_STAT_INGRESS_HITS,
	ESW_STAT_SAMPLED,
	ESW_STAT_SAMPLE_FAILED,
	ESW_STAT_ENCAPSULATED,
	ESW_STAT_DECAPSULATED,
	ESW_STAT_OVERSIZE,
	ESW_STAT_DROPPED,
	ESW_STAT_MALFORMED,
	ESW_STAT_ISOLATED,
	ESW_STAT_RX_NOT_STARTED,
	ESW_STAT_RX_FULL,
	ESW_STAT_RX_NO_MBUF,
	ESW_STAT_RX_TOO_LONG,
	ESW_STAT_FAULT_DROPPED,
	ESW_STAT_FAR_RX_ERRORS, /* the far side's own count */
	ESW_STAT_MAX,
};

/* The steps of a rule's program, in the order of the rule's actions. */
enum esw_op {
	ESW_OP_COUNT,
	ESW_OP_AGE,
	ESW_OP_SAMPLE,
	ESW_OP_ENCAP,
	ESW_OP_DECAP,
	ESW_OP_SET_MAC_SRC,
	ESW_OP_SET_MAC_DST,
	ESW_OP_DEC_TTL,
	ESW_OP_SET_FIELD,
	ESW_OP_POP_VLAN,
	ESW_OP_PUSH_VLAN,
	ESW_OP_MARK,
	ESW_OP_FLAG,
	ESW_OP_META,
	ESW_OP_TAG,
	/* The fates: a program ends with one of these. */
	ESW_OP_JUMP,
	ESW_OP_PORT,
	ESW_OP_QUEUE,
	ESW_OP_RSS,
	ESW_OP_DROP,
};

/* One packet in ratio is copied, and the copy given to a program of its own. */
struct esw_sample {
	uint32_t ratio;
	uint32_t program; /* its offset, for esw_program_data */
};

/* An address (IPv4's are four bytes of it) or a port, as on the wire. */
struct esw_set_field {
	uint8_t value[16];
};

struct esw_set_register {
	uint32_t value;
	uint32_t mask;
};

#define ESW_RSS_QUEUES 14

/* The queues that a hash of the flow chooses from; one may be there several times. */
struct esw_rss {
	uint16_t n;
	uint8_t queue[ESW_RSS_QUEUES];
};

struct esw_push_vlan {
	rte_be16_t type;
	uint16_t tci;
};

struct esw_step {
	enum esw_op op;
	uint32_t which; /* ESW_OP_SET_FIELD: enum esw_field; ESW_OP_TAG: its index */
	union {
		struct esw_sample sample;
		uint32_t encap; /* offset of a struct esw_encap, for esw_program_data */
		struct esw_decap decap;
		struct rte_ether_addr mac;
		struct esw_set_field field;
		struct esw_push_vlan push;
		struct esw_set_register set;
		uint32_t mark;
		struct esw_group *jump;
		struct esw_port *port;
		uint16_t queue;
		struct esw_rss rss;
	};
};

#define ESW_MAX_STEPS 16

/*
 * What rules do to a packet. Nothing in it is of one rule alone: rules that do the same share it.
 * What its steps refer to by offsets lies behind them, so that programs are the same when their
 * bytes are.
 */
struct esw_program {
	struct esw_group *next; /* where it jumps to, if it leaves the packet as it is; else NULL */
	uint32_t steps;
	uint32_t size; /* of all in bytes */
	struct esw_step step[];
};

static inline const void *
esw_program_data(const struct esw_program *program, uint32_t offset)
{
	return (const uint8_t *)&program->step[program->steps] + offset;
}

/* Room for the headers of a rule, and for its sample's steps and headers. */
#define ESW_MAX_DATA 1024

/* A program that is being compiled. */
struct esw_draft {
	struct esw_group *next;
	uint32_t steps;
	uint32_t size; /* of the data */
	struct esw_step step[ESW_MAX_STEPS];
	uint8_t data[ESW_MAX_DATA] __rte_aligned(8);
};

struct esw_shared;

/* The programs of a NIC's rules, by what is in them. */
struct esw_programs {
	uint32_t n;
	uint32_t buckets;
	struct esw_shared **bucket;
};

/* What is kept of a rule beside its pattern and its actions. */
struct esw_rule_info {
	struct rte_flow_attr attr;
	struct esw_port *source; /* whose packets it matches; of any_source, the rule's port */
	bool any_source;         /* it matches the packets of all ports of the switch */
	bool counted;
	bool jumps;
	uint32_t jump;        /* the group's id */
	uint32_t age_timeout; /* seconds, 0: does not age */
	void *age_context;
	struct rte_flow_action_handle
		*shared_count;                     /* of the indirect action, if it counts by one */
	struct rte_flow_action_handle *shared_age; /* likewise */
};

/*
 * The headers that a pattern names, as net_mlx5 counts them: it takes an outermost IP header that
 * says that IPv6 follows for an inner one.
 */
struct esw_headers {
	bool l2;
	bool vlan;
	uint8_t version; /* of IP, 0: none */
	uint8_t l4;      /* IPPROTO_TCP, IPPROTO_UDP, or 0 */
};

/* A rule's actions as the driver gives them to the card: what the card makes of their order is seen
 * at creation only. */
struct esw_listed {
	uint32_t n;
	enum esw_op op[2 * ESW_MAX_STEPS];
	bool mirror;        /* the sample duplicates all packets to a port of the switch */
	bool split;         /* what follows the sample is a rule of its own */
	bool sample_counts; /* there is a counter within the sample */
	bool sample_encaps; /* there is an encapsulation */
	bool ages;          /* the card keeps the age */
};

/* A rule that was parsed and checked, before it is installed. */
struct esw_rule {
	struct esw_rule_info info;
	struct esw_pattern pattern;
	struct esw_headers headers[ESW_L3_MAX];
	bool icmp6;    /* the pattern has an item of ICMPv6 */
	uint32_t tags; /* as bits: those that the pattern names */
	struct esw_listed listed;
	struct esw_draft draft;
};

enum esw_age_state { ESW_AGE_NONE, ESW_AGE_WAITING, ESW_AGE_AGED };

/* Packets and bytes; the pipeline writes the first two only. */
struct esw_counter {
	_Atomic uint64_t hits;
	_Atomic uint64_t bytes;
	uint64_t base_hits; /* what a query with reset has seen */
	uint64_t base_bytes;
};

/* How long ago there was a packet. */
struct esw_age {
	_Atomic uint64_t *last_hit; /* in TSC cycles; the pipeline's */
	uint32_t timeout;           /* seconds */
	enum esw_age_state state;
	uint32_t slot;         /* while waiting: its place in the wheel */
	void *context;         /* what get_aged_flows says */
	struct esw_port *port; /* and of which port */
	TAILQ_ENTRY(esw_age) next;
};

TAILQ_HEAD(esw_age_list, esw_age);

/*
 * An installed rule. There may be very many, so what the pipeline needs of one, beside
 * a program that it shares with others, lies in two cache lines: the first, and the entry with a
 * key of usual length.
 */
struct rte_flow {
	const struct esw_program *program;
	struct esw_counter *counter; /* its own, or an indirect action's; NULL: does not count */
	_Atomic uint64_t *last_hit;  /* likewise; NULL: does not age */
	struct esw_counter own_counter;
	_Atomic uint64_t own_last_hit;
	struct esw_entry entry __rte_cache_aligned;
	uint32_t unsampled; /* packets since the last sampled one; the pipeline's */
	struct esw_age own_age;
	struct esw_age *age; /* its own, or an indirect action's; NULL: does not age */
	struct esw_group *group;
	struct esw_port *owner; /* the port it was created on */
	struct esw_rule_info info;
	TAILQ_ENTRY(rte_flow) owned;
};

static_assert(offsetof(struct rte_flow, entry) == RTE_CACHE_LINE_SIZE,
	      "what a hit needs has outgrown its cache line");

TAILQ_HEAD(esw_flow_list, rte_flow);

/* An indirect action: a counter or an age that flows share. */
struct rte_flow_action_handle {
	struct esw_port *owner;
	enum rte_flow_action_type type;
	uint32_t users; /* flows that have it */
	bool released;  /* by the application: it goes with the last of them */
	struct esw_counter counter;
	struct esw_age age;
	_Atomic uint64_t last_hit; /* the age's */
	TAILQ_ENTRY(rte_flow_action_handle) owned;
};

TAILQ_HEAD(esw_handle_list, rte_flow_action_handle);

/* What is beyond a port: the wire, or a guest. */
struct esw_far {
	uint16_t ethdev;
	bool claimed;
	bool configured;
	struct rte_mempool *pool;
	pthread_mutex_t lock; /* transmission: the pipeline and the application both do */
};

struct esw_rxq {
	struct rte_ring *ring;
	struct rte_mempool *pool;
	uint16_t port_id;
	uint64_t packets; /* the reader's */
	uint64_t bytes;
};

struct esw_txq {
	struct esw_port *port;
	uint64_t packets;
	uint64_t bytes;
	uint64_t errors;
};

struct esw_port {
	struct esw_nic *nic;
	struct rte_eth_dev *dev; /* NULL once closed */
	uint16_t ethdev;
	uint16_t index; /* in the NIC's ports */
	enum esw_kind kind;
	uint16_t vf;
	char name[RTE_ETH_NAME_MAX_LEN];
	char label[8]; /* as the devargs call it */
	struct rte_ether_addr mac;
	_Atomic uint32_t mtu;
	_Atomic uint16_t spread; /* RX queues that misses are spread over */
	atomic_bool started;
	atomic_bool isolated;
	atomic_bool far_stopped; /* these two are faults */
	atomic_bool link_down;
	bool link_news;    /* the application is to be notified of its link */
	bool removed;      /* its link is down, for good */
	bool removal_news; /* the application is to be notified */
	struct esw_far far;
	struct esw_groups ingress;
	struct esw_groups egress;
	struct esw_group *ingress_root;
	struct esw_flow_list flows;
	struct esw_handle_list handles;
	struct esw_age_list aged;
	bool aged_news;     /* flows have aged since the last event */
	bool aged_notified; /* an event was sent, and the aged flows not fetched since */
	struct esw_rxq *rxq[ESW_MAX_QUEUES];
	struct esw_txq *txq[ESW_MAX_QUEUES];
	_Atomic uint64_t stat[ESW_STAT_MAX];
};

#define ESW_AGE_SLOTS 512

/* A wheel of one second a slot: only what may be due is looked at. */
struct esw_age_wheel {
	uint64_t next_second;
	struct esw_age_list slot[ESW_AGE_SLOTS];
};

struct esw_nic {
	char name[RTE_ETH_NAME_MAX_LEN];
	struct rte_vdev_device *vdev;
	struct rte_eth_dev_owner owner;
	uint16_t domain;
	bool has_domain;
	bool metadata; /* marks and metadata also in the switch, as with dv_xmeta_en=1 */
	enum esw_card card;
	uint32_t ports;
	uint32_t open_ports;
	struct esw_port *port[ESW_MAX_PORTS];
	pthread_mutex_t flow_lock; /* serialises everything that changes rules; the pipeline never
				      takes it */
	struct rte_rcu_qsbr *rcu;
	struct esw_groups transfer;
	struct esw_group *transfer_root;
	struct esw_flow_list gone;    /* destroyed rules that the pipeline may still be at */
	struct esw_flow_list waiting; /* likewise; they are freed once it has come to gone_token */
	uint64_t gone_token;
	uint32_t nb_gone; /* in both lists */
	struct esw_programs programs;
	struct esw_age_wheel ages;
	struct esw_faults faults;
	bool alarm;
	atomic_bool running;
	esw_thread thread;
	TAILQ_ENTRY(esw_nic) next;
};

/* What the devargs say. */
struct esw_devargs {
	uint32_t ports;
	struct {
		enum esw_kind kind;
		uint16_t vf;
		char far[RTE_ETH_NAME_MAX_LEN];
	} port[ESW_MAX_PORTS];
	bool metadata;
	enum esw_card card;
	char faults[ESW_MAX_FAULT_ARGS]; /* KEY=VALUE,... */
};

/* devargs.c */
int esw_devargs_parse(const char *args, struct esw_devargs *out);

/* nic.c */
void esw_nic_port_closed(struct esw_port *port);
struct esw_port *esw_nic_pf0(const struct esw_nic *nic);
struct esw_port *esw_nic_port_by_ethdev(const struct esw_nic *nic, uint32_t ethdev);
struct esw_port *esw_nic_port_by_name(const struct esw_nic *nic, const char *name);
struct esw_nic *esw_nic_find_locked(const char *name);
void esw_nics_unlock(void);

static inline bool
esw_port_in_switch(const struct esw_port *port)
{
	return port->kind != ESW_PF1;
}

/* What rules know the port by as the source of packets. */
static inline uint16_t
esw_port_vport(const struct esw_port *port)
{
	return port->index + 1;
}

/* Whether marks and metadata are also in the switch: a port outside of it has none of that. */
static inline bool
esw_port_has_metadata(const struct esw_port *port)
{
	return port->nic->metadata && esw_port_in_switch(port);
}

/* Its bits in what comes in: it shares a register with the source port. What the application sends
 * has all. */
static inline uint32_t
esw_port_meta_mask(const struct esw_port *port, const struct rte_flow_attr *attr)
{
	return esw_port_has_metadata(port) && !attr->egress ? UINT16_MAX : UINT32_MAX;
}

/* ethdev.c */
int esw_ethdev_create(struct esw_port *port);
void esw_ethdev_link_changed(struct rte_eth_dev *dev);
void esw_ethdev_removed(struct rte_eth_dev *dev);

/* stats.c */
int esw_stats_get(struct rte_eth_dev *dev, struct rte_eth_stats *stats ESW_QUEUE_STATS);
int esw_stats_reset(struct rte_eth_dev *dev);
int esw_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *xstats, unsigned int n);
int esw_xstats_get_names(struct rte_eth_dev *dev, struct rte_eth_xstat_name *names, unsigned int n);

static inline void
esw_count(struct esw_port *port, enum esw_stat stat, uint64_t n)
{
	atomic_fetch_add_explicit(&port->stat[stat], n, memory_order_relaxed);
}

/* far.c */
int esw_far_open(struct esw_port *port, const char *name);
void esw_far_close(struct esw_port *port);
uint16_t esw_far_receive(struct esw_port *port, struct rte_mbuf **pkts, uint16_t n);
uint16_t esw_far_send(struct esw_port *port, struct rte_mbuf **pkts, uint16_t n);
bool esw_far_fits(struct esw_port *port, const struct rte_mbuf *m);
uint32_t esw_far_mtu(const struct esw_port *port);
int esw_far_set_mtu(struct esw_port *port, uint16_t mtu);
int esw_far_set_mac(struct esw_port *port, struct rte_ether_addr *mac);
uint64_t esw_far_rx_errors(const struct esw_port *port);
void esw_far_link(const struct esw_port *port, struct rte_eth_link *link);

/* pipeline.c */
int esw_pipeline_start(struct esw_nic *nic);
void esw_pipeline_stop(struct esw_nic *nic);
void esw_pipeline_wait(struct esw_nic *nic);
struct esw_output;
void esw_pipeline_burst(struct esw_output *out, struct esw_port *port, struct rte_mbuf **pkts,
			uint16_t n);

/* action.c */
struct esw_group *esw_flow_run(struct esw_output *out, struct esw_port *from, struct rte_flow *flow,
			       struct esw_packet *packet);

/* output.c */
struct esw_output {
	uint64_t now; /* TSC, of this burst */
	struct {
		uint16_t n;
		struct rte_mbuf *pkt[ESW_BURST];
	} tx[ESW_MAX_PORTS];
	struct esw_nic *nic;
};
void esw_output_send(struct esw_output *out, struct esw_port *port, struct rte_mbuf *m);
void esw_output_flush(struct esw_output *out);
void esw_output_receive(struct esw_port *port, uint16_t queue, const struct esw_packet *packet);

/* flow_error.c */
int esw_flow_error(struct rte_flow_error *error, int code, enum rte_flow_error_type type,
		   const void *cause, const char *format, ...) __rte_format_printf(5, 6);

/* flow_pattern.c, flow_actions.c, flow_validate.c */
int esw_rule_pattern(struct esw_port *port, const struct rte_flow_item *items,
		     struct esw_rule *rule, struct rte_flow_error *error);
int esw_rule_actions(struct esw_port *port, const struct rte_flow_action *actions,
		     struct esw_rule *rule, struct rte_flow_error *error);
int esw_rule_compile(struct esw_port *port, const struct rte_flow_attr *attr,
		     const struct rte_flow_item *items, const struct rte_flow_action *actions,
		     struct esw_rule *rule, struct rte_flow_error *error);

/* flow_hardware.c */
uint32_t esw_group_level(uint32_t group);
int esw_rule_hardware(const struct esw_port *port, const struct esw_rule *rule,
		      struct rte_flow_error *error);

/* program.c */
void *esw_draft_room(struct esw_draft *draft, size_t size, uint32_t *at);
size_t esw_draft_packed(const struct esw_draft *draft);
void esw_draft_pack(const struct esw_draft *draft, struct esw_program *program);
const struct esw_program *esw_program_get(struct esw_programs *all, const struct esw_draft *draft);
void esw_program_put(struct esw_programs *all, const struct esw_program *program);
void esw_programs_free(struct esw_programs *all);

/* flow.c */
int esw_flow_ops_get(struct rte_eth_dev *dev, const struct rte_flow_ops **ops);
void esw_flow_flush_port(struct esw_port *port);
int esw_flow_query_counter(struct esw_counter *counter, struct rte_flow_query_count *out);
int esw_flow_query_age(const struct esw_age *age, struct rte_flow_query_age *out);

/* indirect.c */
struct rte_flow_action_handle *esw_indirect_create(struct rte_eth_dev *dev,
						   const struct rte_flow_indir_action_conf *conf,
						   const struct rte_flow_action *action,
						   struct rte_flow_error *error);
int esw_indirect_destroy(struct rte_eth_dev *dev, struct rte_flow_action_handle *handle,
			 struct rte_flow_error *error);
int esw_indirect_update(struct rte_eth_dev *dev, struct rte_flow_action_handle *handle,
			const void *update, struct rte_flow_error *error);
int esw_indirect_query(struct rte_eth_dev *dev, const struct rte_flow_action_handle *handle,
		       void *data, struct rte_flow_error *error);
void esw_indirect_use(struct rte_flow_action_handle *handle, int by);
void esw_indirect_free_port(struct esw_port *port);

/* dump.c */
void esw_dump_rule(FILE *file, const struct rte_flow *flow);
void esw_dump_counters(FILE *file, const struct rte_flow *flow);

/* age.c */
int esw_age_start(struct esw_nic *nic);
void esw_age_stop(struct esw_nic *nic);
void esw_age_add(struct esw_nic *nic, struct esw_age *age);
void esw_age_remove(struct esw_nic *nic, struct esw_age *age);
uint64_t esw_age_idle_seconds(const struct esw_age *age);

#endif
