/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The thread that is the NIC: it takes packets from the far sides, runs them through the rules and
 * sends them on, whatever the application does. It never waits for those who change rules; they
 * wait for it (RCU).
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "eswitch.h"

/* Rounds without a packet before the thread sleeps, and how long. */
#define IDLE_ROUNDS 64
#define IDLE_US 50

#define READER 0

/* How many lookups are done ahead for a packet. */
#define AHEAD 4

/* A packet of a burst, and what was found for it in its first groups before any packet of the burst
 * was touched. */
struct arrival {
	struct esw_packet packet;
	uint32_t looked;
	uint32_t used;
	struct rte_flow *found[AHEAD];
};

static struct rte_flow *
flow_of(struct esw_entry *entry)
{
	return entry == NULL ? NULL : container_of(entry, struct rte_flow, entry);
}

static void
prefetch_program(const struct esw_program *program)
{
	const uint8_t *line = (const uint8_t *)program;
	uint32_t i;

	for (i = 0; i < 4; i++)
		rte_prefetch0(line + i * RTE_CACHE_LINE_SIZE);
}

/* Keeps what was found; true when it is known already where to look next. */
static bool
keep(struct esw_lookup *lookup)
{
	struct arrival *a = container_of(lookup->key, struct arrival, packet.key);
	struct rte_flow *flow = flow_of(lookup->found);

	a->found[a->looked++] = flow;
	if (flow == NULL)
		return false;
	lookup->group = flow->program->next;
	return lookup->group != NULL;
}

/* Looks up what the packets will meet, all of them at once: the memory of many rules is then
 * fetched at a time. */
static void
look_ahead(const struct esw_port *port, struct arrival *arrivals, uint32_t n)
{
	struct esw_lookup lookups[ESW_BURST];
	uint32_t i, level, left;

	if (!esw_port_in_switch(port))
		return;
	for (i = 0; i < n; i++) {
		lookups[i].group = port->nic->transfer_root;
		lookups[i].key = &arrivals[i].packet.key;
	}
	for (level = 0; level < AHEAD && n > 0; level++, n = left) {
		esw_match_lookup_burst(lookups, n);
		for (i = 0; i < n; i++)
			if (lookups[i].found != NULL)
				rte_prefetch0(flow_of(lookups[i].found));
		for (i = 0; i < n; i++)
			if (lookups[i].found != NULL)
				prefetch_program(flow_of(lookups[i].found)->program);
		for (i = 0, left = 0; i < n; i++)
			if (keep(&lookups[i]))
				lookups[left++] = lookups[i];
	}
}

static struct rte_flow *
look_up(const struct esw_group *group, struct arrival *a)
{
	if (a->used < a->looked)
		return a->found[a->used++];
	esw_packet_refresh(&a->packet);
	return flow_of(esw_match_lookup(group, &a->packet.key));
}

/* Runs the packet through the groups that start at group; true when a rule decided its fate. */
static bool
run_rules(struct esw_output *out, struct esw_port *port, struct esw_group *group, struct arrival *a,
	  bool *jumped)
{
	struct rte_flow *flow;

	*jumped = false;
	for (;;) {
		flow = look_up(group, a);
		if (flow == NULL)
			return false;
		group = esw_flow_run(out, port, flow, &a->packet);
		if (group == NULL)
			return true;
		*jumped = true;
	}
}

/* Where the application gets a miss: a flow keeps to one queue. */
static uint16_t
miss_queue(const struct esw_port *port, const struct arrival *a)
{
	uint16_t queues = load_relaxed(&port->spread);

	return queues > 1 ? esw_flow_hash(&a->packet.key) % queues : 0;
}

/* A packet that no transfer rule took: the port's own rules, and then the application, but for what
 * these have sent astray. */
static void
miss(struct esw_output *out, struct esw_port *port, struct arrival *a)
{
	bool jumped;

	/* Tags end where the switch does. */
	memset(a->packet.key.metadata.tag, 0, sizeof(a->packet.key.metadata.tag));
	if (run_rules(out, port, port->ingress_root, a, &jumped)) {
		esw_count(port, ESW_STAT_INGRESS_HITS, 1);
		return;
	}
	if (jumped)
		esw_count(port, ESW_STAT_DROPPED, 1);
	else if (load_relaxed(&port->isolated))
		esw_count(port, ESW_STAT_ISOLATED, 1);
	else
		esw_output_receive(port, miss_queue(port, a), &a->packet);
	rte_pktmbuf_free(a->packet.m);
}

static void
handle(struct esw_output *out, struct esw_port *port, struct arrival *a)
{
	bool jumped;

	if (esw_port_in_switch(port)) {
		if (run_rules(out, port, port->nic->transfer_root, a, &jumped)) {
			esw_count(port, ESW_STAT_HITS, 1);
			return;
		}
		esw_count(port, ESW_STAT_MISSES, 1);
	}
	miss(out, port, a);
}

/* The packet as one segment of our own that may be written to, or NULL (it is freed then). */
static struct rte_mbuf *
own(struct esw_port *port, struct rte_mbuf *m)
{
	struct rte_mbuf *copy;

	if (m->nb_segs == 1 && RTE_MBUF_DIRECT(m) && rte_mbuf_refcnt_read(m) == 1)
		return m;
	copy = rte_pktmbuf_copy(m, port->far.pool, 0, UINT32_MAX);
	rte_pktmbuf_free(m);
	if (copy != NULL && copy->nb_segs > 1) {
		rte_pktmbuf_free(copy);
		return NULL;
	}
	return copy;
}

/* Makes a packet ready for the rules; false when it is none, and gone. */
static bool
admit(struct esw_port *port, struct rte_mbuf *m, struct arrival *a)
{
	esw_count(port, ESW_STAT_FAR_RX_BYTES, m->pkt_len);
	m = own(port, m);
	if (m != NULL && (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) && rte_vlan_insert(&m) < 0) {
		rte_pktmbuf_free(m);
		m = NULL;
	}
	if (m == NULL || m->data_len < sizeof(struct rte_ether_hdr)) {
		esw_count(port, ESW_STAT_MALFORMED, 1);
		rte_pktmbuf_free(m);
		return false;
	}
	m->ol_flags = 0;
	m->tx_offload = 0;
	esw_packet_init(&a->packet, m, esw_port_vport(port));
	a->looked = a->used = 0;
	return true;
}

/*
 * Runs packets that came from the far side of a port through the rules, one after the other, so
 * that they stay in order, and sends them.
 */
void
esw_pipeline_burst(struct esw_output *out, struct esw_port *port, struct rte_mbuf **pkts,
		   uint16_t n)
{
	struct arrival arrivals[ESW_BURST];
	uint32_t i, admitted = 0;

	esw_count(port, ESW_STAT_FAR_RX_PACKETS, n);
	out->now = rte_rdtsc();
	for (i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], void *));
	for (i = 0; i < n; i++)
		if (admit(port, pkts[i], &arrivals[admitted]))
			admitted++;
	look_ahead(port, arrivals, admitted);
	for (i = 0; i < admitted; i++)
		handle(out, port, &arrivals[i]);
	esw_output_flush(out);
}

static uint32_t
poll_port(struct esw_output *out, struct esw_port *port)
{
	struct rte_mbuf *pkts[ESW_BURST];
	uint16_t n;

	n = esw_far_receive(port, pkts, ESW_BURST);
	if (n == 0)
		return 0;
	esw_pipeline_burst(out, port, pkts, n);
	return n;
}

static void
idle(struct rte_rcu_qsbr *rcu)
{
	rte_rcu_qsbr_thread_offline(rcu, READER);
	usleep(IDLE_US);
	rte_rcu_qsbr_thread_online(rcu, READER);
}

static ESW_THREAD_FN
pipeline(void *arg)
{
	struct esw_output *out = arg;
	struct esw_nic *nic = out->nic;
	uint32_t empty = 0;
	sigset_t all;

	/* Signals are the application's (in a Go program: its threads'). */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	rte_rcu_qsbr_thread_online(nic->rcu, READER);
	while (atomic_load_explicit(&nic->running, memory_order_acquire)) {
		uint32_t i, n = 0;

		for (i = 0; i < nic->ports; i++)
			n += poll_port(out, nic->port[i]);
		rte_rcu_qsbr_quiescent(nic->rcu, READER);
		empty = n == 0 ? empty + 1 : 0;
		if (empty > IDLE_ROUNDS)
			idle(nic->rcu);
	}
	rte_rcu_qsbr_thread_offline(nic->rcu, READER);
	free(out);
	return ESW_THREAD_END;
}

static struct rte_rcu_qsbr *
rcu_new(void)
{
	size_t size = rte_rcu_qsbr_get_memsize(1);
	struct rte_rcu_qsbr *rcu =
		aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(size, RTE_CACHE_LINE_SIZE));

	if (rcu == NULL)
		return NULL;
	rte_rcu_qsbr_init(rcu, 1);
	rte_rcu_qsbr_thread_register(rcu, READER);
	return rcu;
}

/* Starts forwarding. */
int
esw_pipeline_start(struct esw_nic *nic)
{
	struct esw_output *out = calloc(1, sizeof(*out));
	int ret = -ENOMEM;

	nic->rcu = rcu_new();
	if (out == NULL || nic->rcu == NULL)
		goto fail;
	out->nic = nic;
	store_relaxed(&nic->running, true);
	ret = esw_thread_start(&nic->thread, "eswitch", pipeline, out);
	if (ret == 0)
		return 0;
	store_relaxed(&nic->running, false);
fail:
	free(out);
	free(nic->rcu);
	nic->rcu = NULL;
	return ret;
}

/* Ends forwarding; afterwards nobody reads the rules. */
void
esw_pipeline_stop(struct esw_nic *nic)
{
	if (!load_relaxed(&nic->running))
		return;
	atomic_store_explicit(&nic->running, false, memory_order_release);
	esw_thread_join(nic->thread);
}

/* Returns once no packet is being handled that was received before the call. */
void
esw_pipeline_wait(struct esw_nic *nic)
{
	rte_rcu_qsbr_synchronize(nic->rcu, RTE_QSBR_THRID_INVALID);
}
