/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The thread that is the NIC: it takes packets from the far sides, runs them through the rules and sends them on,
 * whatever the application does. It never waits for those who change rules; they wait for it (RCU).
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

/* Runs the packet through the groups that start at group; true when a rule decided its fate. */
static bool
run_rules(struct esw_output *out, struct esw_port *port, struct esw_group *group, struct esw_packet *packet)
{
	struct rte_flow *flow;

	while (group != NULL) {
		esw_packet_refresh(packet);
		flow = (struct rte_flow *)esw_match_lookup(group, &packet->key);
		if (flow == NULL)
			return false;
		group = esw_program_run(out, port, flow, packet);
	}
	return true;
}

/* A packet that no transfer rule took: the port's own rules, and then the application. */
static void
miss(struct esw_output *out, struct esw_port *port, struct esw_packet *packet)
{
	/* Tags end where the switch does. */
	memset(packet->key.metadata.tag, 0, sizeof(packet->key.metadata.tag));
	if (run_rules(out, port, port->ingress_root, packet)) {
		esw_count(port, ESW_STAT_INGRESS_HITS, 1);
		return;
	}
	if (__atomic_load_n(&port->isolated, __ATOMIC_RELAXED))
		esw_count(port, ESW_STAT_ISOLATED, 1);
	else
		esw_output_receive(port, 0, packet);
	rte_pktmbuf_free(packet->m);
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

static void
handle(struct esw_output *out, struct esw_port *port, struct rte_mbuf *m)
{
	struct esw_packet packet;

	esw_count(port, ESW_STAT_FAR_RX_BYTES, m->pkt_len);
	m = own(port, m);
	if (m != NULL && (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) && rte_vlan_insert(&m) < 0) {
		rte_pktmbuf_free(m);
		m = NULL;
	}
	if (m == NULL || m->data_len < sizeof(struct rte_ether_hdr)) {
		esw_count(port, ESW_STAT_MALFORMED, 1);
		rte_pktmbuf_free(m);
		return;
	}
	m->ol_flags = 0;
	m->tx_offload = 0;
	esw_packet_init(&packet, m);
	if (run_rules(out, port, port->transfer_root, &packet)) {
		esw_count(port, ESW_STAT_HITS, 1);
		return;
	}
	if (esw_port_in_switch(port))
		esw_count(port, ESW_STAT_MISSES, 1);
	miss(out, port, &packet);
}

/* Runs packets that came from the far side of a port through the rules, and sends them. */
void
esw_pipeline_burst(struct esw_output *out, struct esw_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i;

	esw_count(port, ESW_STAT_FAR_RX_PACKETS, n);
	out->now = rte_rdtsc();
	for (i = 0; i < n; i++)
		handle(out, port, pkts[i]);
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
	while (__atomic_load_n(&nic->running, __ATOMIC_ACQUIRE)) {
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
	struct rte_rcu_qsbr *rcu = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(size, RTE_CACHE_LINE_SIZE));

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
	nic->running = true;
	ret = esw_thread_start(&nic->thread, "eswitch", pipeline, out);
	if (ret == 0)
		return 0;
	nic->running = false;
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
	if (!nic->running)
		return;
	__atomic_store_n(&nic->running, false, __ATOMIC_RELEASE);
	esw_thread_join(nic->thread);
}

/* Returns once no packet is being handled that was received before the call. */
void
esw_pipeline_wait(struct esw_nic *nic)
{
	rte_rcu_qsbr_synchronize(nic->rcu, RTE_QSBR_THRID_INVALID);
}
