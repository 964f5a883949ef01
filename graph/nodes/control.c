/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_malloc.h>

#include "build.h"
#include "compat.h"
#include "flow.h"
#include "flow_share.h"
#include "tables.h"
#include "worker.h"

/* ---- life ---- */

static bool
is_same_uplink(const struct port *a, const struct port *b)
{
	return !a->vf && !b->vf && a->pf == b->pf;
}

static int
check_conf(const struct dataplane_conf *conf)
{
	uint16_t i, j;

	if (conf->pool == NULL || conf->nb_ports == 0 || conf->nb_workers == 0 ||
	    conf->punt_rate == 0 || conf->punt_burst == 0)
		return -EINVAL;
	for (i = 0; i < conf->nb_ports; i++) {
		if (!rte_eth_dev_is_valid_port(conf->ports[i].id))
			return -ENODEV;
		if (!conf->ports[i].vf && conf->ports[i].pf >= MAX_UPLINKS)
			return -EINVAL;
		for (j = 0; j < i; j++)
			if (conf->ports[i].id == conf->ports[j].id ||
			    strcmp(conf->ports[i].name, conf->ports[j].name) == 0 ||
			    is_same_uplink(&conf->ports[i], &conf->ports[j]))
				return -EEXIST;
	}
	for (i = 0; i < conf->nb_workers; i++)
		if (!rte_lcore_is_enabled(conf->lcores[i]) ||
		    conf->lcores[i] == rte_get_main_lcore())
			return -EINVAL;
	return 0;
}

static void
worker_free(struct worker *w)
{
	dps_taps_free(w);
	dps_trace_free(w);
	dps_build_destroy(w);
	dps_tables_free(w);
	dps_flow_table_free(w);
	rte_free(w);
}

/* The NIC decapsulates on the uplink of its E-Switch, and only in rules that stand for the
 * offload. */
static void
init_ports(struct worker *w)
{
	const struct dataplane *dp = w->dp;
	uint16_t i;

	for (i = 0; i < RTE_MAX_ETHPORTS; i++)
		w->ports[i] = (struct port_state){
			.slot = NO_SLOT,
			.iface = NO_IFACE,
			.ipv4 = RTE_BE16(RTE_ETHER_TYPE_IPV4),
		};
	for (i = 0; i < dp->nb_ports; i++) {
		w->ports[dp->ports[i].id].slot = i;
		w->ports[dp->ports[i].id].vf = dp->ports[i].vf;
		w->ports[dp->ports[i].id].marks =
			w->offload && !dp->ports[i].vf && dp->ports[i].pf == 0;
		w->ports[dp->ports[i].id].mtu = dp->ports[i].mtu;
	}
}

static int
make_set_timeouts(struct worker *w, const void *arg)
{
	const uint32_t *timeouts_ms = arg;
	int i;

	for (i = 0; i < FLOW_TIMEOUTS; i++)
		w->timeouts[i] = timeouts_ms[i] * rte_get_tsc_hz() / MS_PER_S;
	return 0;
}

static int
worker_init(struct worker *w, const struct dataplane_conf *conf)
{
	/* a walk takes in no more than this, so a spare entry is never used twice in one */
	uint32_t spare = conf->nb_ports * RX_BURST;
	int rc;

	init_ports(w);
	make_set_timeouts(w, conf->timeouts_ms);
	rc = dps_flow_table_create(w, conf->flow_capacity, spare);
	if (rc == 0)
		rc = dps_tables_create(w);
	if (rc < 0)
		return rc;
	return dps_build_graph(w, conf->name);
}

static int
add_worker(struct dataplane *dp, const struct dataplane_conf *conf)
{
	struct worker *w = rte_zmalloc("worker", sizeof(*w), RTE_CACHE_LINE_SIZE);
	int rc;

	if (w == NULL)
		return -ENOMEM;
	w->dp = dp;
	w->index = dp->nb_workers;
	w->lcore = conf->lcores[w->index];
	w->offload = conf->offload;
	rc = worker_init(w, conf);
	if (rc < 0) {
		worker_free(w);
		return rc;
	}
	dp->workers[dp->nb_workers++] = w;
	return 0;
}

static int
create_shared(struct dataplane *dp)
{
	dp->punts = rte_ring_create("dp_punts", dp->punt_burst * PUNT_KINDS * dp->nb_ports,
				    SOCKET_ID_ANY, RING_F_SC_DEQ | RING_F_EXACT_SZ);
	if (dp->punts == NULL)
		return -rte_errno;
	dp->inject = rte_ring_create("dp_inject", INJECT_RING, SOCKET_ID_ANY, RING_F_SC_DEQ);
	if (dp->inject == NULL)
		return -rte_errno;
	dp->events = rte_ring_create_elem("dp_events", sizeof(struct flow_info), EVENT_RING,
					  SOCKET_ID_ANY, RING_F_SC_DEQ);
	if (dp->events == NULL)
		return -rte_errno;
	dp->punt_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (dp->punt_fd < 0)
		return -errno;
	dp->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (dp->event_fd < 0)
		return -errno;
	return 0;
}

static int
ask_mtus(struct dataplane *dp)
{
	uint16_t i;
	int rc;

	for (i = 0; i < dp->nb_ports; i++) {
		if (dp->ports[i].mtu != 0)
			continue;
		rc = rte_eth_dev_get_mtu(dp->ports[i].id, &dp->ports[i].mtu);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int
dataplane_init(struct dataplane *dp, const struct dataplane_conf *conf)
{
	uint16_t i;
	int rc;

	rc = ask_mtus(dp);
	if (rc == 0)
		rc = create_shared(dp);
	if (rc == 0)
		rc = dps_build_nodes(dp);
	for (i = 0; rc == 0 && i < conf->nb_workers; i++)
		rc = add_worker(dp, conf);
	return rc;
}

static void
close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

struct dataplane *
dps_dataplane_create(const struct dataplane_conf *conf, int *error)
{
	struct dataplane *dp;

	*error = check_conf(conf);
	if (*error < 0)
		return NULL;
	dp = calloc(1, sizeof(*dp));
	if (dp == NULL) {
		*error = -ENOMEM;
		return NULL;
	}
	dp->pool = conf->pool;
	dp->punt_interval = rte_get_tsc_hz() / conf->punt_rate;
	dp->punt_burst = conf->punt_burst;
	memcpy(dp->node_ip, conf->node_ip, sizeof(dp->node_ip));
	dp->nb_ports = conf->nb_ports;
	memcpy(dp->ports, conf->ports, sizeof(dp->ports));
	dp->event_share = EVENT_RING / 2 / (dps_share_count(dp) + 1);
	dp->punt_fd = -1;
	dp->event_fd = -1;
	*error = dataplane_init(dp, conf);
	if (*error == 0)
		return dp;
	close_fd(dp->punt_fd);
	close_fd(dp->event_fd);
	dps_dataplane_free(dp);
	return NULL;
}

static void
free_packet_ring(struct rte_ring *ring)
{
	struct rte_mbuf *m;

	if (ring == NULL)
		return;
	while (rte_ring_dequeue(ring, (void **)&m) == 0)
		rte_pktmbuf_free(m);
	rte_ring_free(ring);
}

void
dps_dataplane_free(struct dataplane *dp)
{
	uint16_t i;

	for (i = 0; i < dp->nb_workers; i++)
		worker_free(dp->workers[i]);
	free_packet_ring(dp->punts);
	free_packet_ring(dp->inject);
	rte_ring_free(dp->events);
	rte_ring_free(dp->traced);
	free(dp);
}

/* The n-th worker uses queue n of every port. */
static int
check_queues(const struct dataplane *dp)
{
	struct rte_eth_dev_info info;
	uint16_t i;
	int rc;

	for (i = 0; i < dp->nb_ports; i++) {
		rc = rte_eth_dev_info_get(dp->ports[i].id, &info);
		if (rc < 0)
			return rc;
		if (info.nb_rx_queues < dp->nb_workers || info.nb_tx_queues < dp->nb_workers)
			return -EINVAL;
	}
	return 0;
}

int
dps_dataplane_start(struct dataplane *dp)
{
	uint16_t i;
	int rc;

	rc = check_queues(dp);
	if (rc < 0)
		return rc;
	for (i = 0; i < dp->nb_workers; i++) {
		struct worker *w = dp->workers[i];

		store_relaxed(&w->stop, false);
		rc = rte_eal_remote_launch(dps_worker_main, w, w->lcore);
		if (rc < 0) {
			dps_dataplane_stop(dp);
			return rc;
		}
		w->running = true;
	}
	return 0;
}

void
dps_dataplane_stop(struct dataplane *dp)
{
	uint16_t i;

	for (i = 0; i < dp->nb_workers; i++)
		store_relaxed(&dp->workers[i]->stop, true);
	for (i = 0; i < dp->nb_workers; i++) {
		if (!dp->workers[i]->running)
			continue;
		rte_eal_wait_lcore(dp->workers[i]->lcore);
		dp->workers[i]->running = false;
	}
}

/* ---- changes: the same to every worker, so that their tables are alike ---- */

int
dps_dataplane_set_timeouts(struct dataplane *dp, const uint32_t *timeouts_ms)
{
	return dps_workers_change(dp->workers, dp->nb_workers, make_set_timeouts, timeouts_ms);
}

int
dps_dataplane_ping(struct dataplane *dp)
{
	uint16_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < dp->nb_workers; i++)
		rc = dps_worker_ping(dp->workers[i]);
	return rc;
}

struct change {
	/* Reads what nothing but a change writes, so the caller may do it while the worker runs. */
	int (*check)(const struct worker *w, const void *arg);
	request_fn make; /* cannot fail after check */
};

static int
change_all(struct dataplane *dp, const struct change *c, const void *arg)
{
	uint16_t i;
	int rc;

	for (i = 0; i < dp->nb_workers; i++) {
		rc = c->check(dp->workers[i], arg);
		if (rc < 0)
			return rc;
	}
	return dps_workers_change(dp->workers, dp->nb_workers, c->make, arg);
}

static int
check_set_iface(const struct worker *w, const void *arg)
{
	return dps_iface_check(w, arg);
}

static int
make_set_iface(struct worker *w, const void *arg)
{
	dps_iface_set(w, arg);
	dps_flow_invalidate(w);
	return 0;
}

int
dps_dataplane_set_iface(struct dataplane *dp, const struct iface *conf)
{
	static const struct change change = { check_set_iface, make_set_iface };

	return change_all(dp, &change, conf);
}

static int
check_delete_iface(const struct worker *w, const void *arg)
{
	return dps_iface_check_delete(w, *(const uint16_t *)arg);
}

static int
make_delete_iface(struct worker *w, const void *arg)
{
	dps_iface_delete(w, *(const uint16_t *)arg);
	dps_flow_invalidate(w);
	return 0;
}

int
dps_dataplane_delete_iface(struct dataplane *dp, uint16_t index)
{
	static const struct change change = { check_delete_iface, make_delete_iface };

	return change_all(dp, &change, &index);
}

static int
check_add_route(const struct worker *w, const void *arg)
{
	return dps_route_check_add(w, arg);
}

static int
make_add_route(struct worker *w, const void *arg)
{
	dps_route_add(w, arg);
	dps_flow_invalidate(w);
	return 0;
}

int
dps_dataplane_add_route(struct dataplane *dp, const struct route *r)
{
	static const struct change change = { check_add_route, make_add_route };

	return change_all(dp, &change, r);
}

static int
check_delete_route(const struct worker *w, const void *arg)
{
	return dps_route_check_delete(w, arg);
}

static int
make_delete_route(struct worker *w, const void *arg)
{
	dps_route_delete(w, arg);
	dps_flow_invalidate(w);
	return 0;
}

int
dps_dataplane_delete_route(struct dataplane *dp, const struct route *r)
{
	static const struct change change = { check_delete_route, make_delete_route };

	return change_all(dp, &change, r);
}

static int
check_set_uplink(const struct worker *w, const void *arg)
{
	return dps_uplink_check(w, arg);
}

static int
make_set_uplink(struct worker *w, const void *arg)
{
	dps_uplink_set(w, arg);
	dps_flow_invalidate(w);
	return 0;
}

int
dps_dataplane_set_uplink(struct dataplane *dp, const struct uplink *u)
{
	static const struct change change = { check_set_uplink, make_set_uplink };

	return change_all(dp, &change, u);
}

static int
check_set_tunnel(const struct worker *w, const void *arg)
{
	return dps_tunnel_check(w, arg);
}

static int
make_set_tunnel(struct worker *w, const void *arg)
{
	dps_tunnel_set(w, arg);
	return 0;
}

int
dps_dataplane_set_tunnel(struct dataplane *dp, const struct tunnel *t)
{
	static const struct change change = { check_set_tunnel, make_set_tunnel };

	return change_all(dp, &change, t);
}

/* Flows that a worker changes between two walks: so many that packets hardly wait. */
#define FLOWS_AT_ONCE 256u

typedef int (*change_fn)(struct worker *w, uint64_t id);

struct flows_request {
	const uint64_t *ids;
	int *results;
	uint32_t n;
	change_fn change;
};

/* To those of the flows that are this worker's. */
static int
do_change_flows(struct worker *w, const void *arg)
{
	const struct flows_request *r = arg;
	uint32_t i;

	for (i = 0; i < r->n; i++)
		if (flow_id_worker(r->ids[i]) == w->index)
			r->results[i] = r->change(w, r->ids[i]);
	return 0;
}

static bool
owns_some(const struct worker *w, const struct flows_request *r)
{
	uint32_t i;

	for (i = 0; i < r->n; i++)
		if (flow_id_worker(r->ids[i]) == w->index)
			return true;
	return false;
}

static void
set_results(const struct worker *w, const struct flows_request *r, int result)
{
	uint32_t i;

	for (i = 0; i < r->n; i++)
		if (flow_id_worker(r->ids[i]) == w->index)
			r->results[i] = result;
}

static void
change_flows(struct dataplane *dp, const struct flows_request *r)
{
	uint16_t i;
	int rc;

	for (i = 0; i < dp->nb_workers; i++) {
		if (!owns_some(dp->workers[i], r))
			continue;
		rc = dps_worker_call(dp->workers[i], do_change_flows, r);
		if (rc < 0)
			set_results(dp->workers[i], r, rc);
	}
}

void
dps_dataplane_change_flows(struct dataplane *dp, enum flow_change change, const uint64_t *ids,
			   int *results, uint32_t n)
{
	static const change_fn changes[] = {
		[FLOW_CHANGE_ONLOAD] = dps_flow_onload,
		[FLOW_CHANGE_OFFLOAD] = dps_flow_offload,
		[FLOW_CHANGE_DELETE] = dps_flow_delete,
	};
	struct flows_request r = { .change = changes[change] };
	uint32_t i;

	for (i = 0; i < n; i++)
		results[i] = -ENOENT; /* unless a worker says something else */
	for (i = 0; i < n; i += r.n) {
		r.ids = &ids[i];
		r.results = &results[i];
		r.n = RTE_MIN(n - i, FLOWS_AT_ONCE);
		change_flows(dp, &r);
	}
}

/* ---- packets and events ---- */

int
dps_dataplane_inject(struct dataplane *dp, uint16_t port, const void *frame, uint32_t len)
{
	const struct port *p = port_by_id(dp, port);
	struct rte_mbuf *m;
	char *data;

	if (p == NULL)
		return -ENODEV;
	if (len < ETH_LEN || len > ETH_LEN + (uint32_t)p->mtu)
		return -EMSGSIZE;
	m = rte_pktmbuf_alloc(dp->pool);
	if (m == NULL)
		return -ENOBUFS;
	data = rte_pktmbuf_append(m, len);
	if (data == NULL) {
		rte_pktmbuf_free(m);
		return -EMSGSIZE;
	}
	memcpy(data, frame, len);
	m->port = port;
	if (rte_ring_mp_enqueue(dp->inject, m) < 0) {
		rte_pktmbuf_free(m);
		return -ENOBUFS;
	}
	return 0;
}

uint32_t
dps_dataplane_read_punts(struct dataplane *dp, uint8_t *buf, uint32_t size, uint16_t *ports,
			 uint16_t *lens, uint32_t max)
{
	struct rte_mbuf *m;
	uint32_t n = 0;

	while (n < max && size >= UINT16_MAX && rte_ring_sc_dequeue(dp->punts, (void **)&m) == 0) {
		atomic_fetch_sub_explicit(&dp->punts_waiting[m->port][pkt_meta(m)->punt_kind], 1,
					  memory_order_relaxed);
		ports[n] = m->port;
		lens[n] = rte_pktmbuf_data_len(m);
		memcpy(buf, rte_pktmbuf_mtod(m, void *), lens[n]);
		buf += lens[n];
		size -= lens[n];
		n++;
		rte_pktmbuf_free(m);
	}
	return n;
}

uint32_t
dps_dataplane_read_events(struct dataplane *dp, struct flow_info *out, uint32_t max)
{
	uint32_t n = rte_ring_sc_dequeue_burst_elem(dp->events, out, sizeof(*out), max, NULL), i;

	for (i = 0; i < n; i++)
		if (out[i].event == EVENT_NEW)
			atomic_fetch_sub_explicit(&dp->events_waiting[out[i].share], 1,
						  memory_order_relaxed);
	return n;
}

/* ---- seeing ---- */

uint32_t
dps_dataplane_read_flows(const struct dataplane *dp, uint64_t *cursor, struct flow_info *out,
			 uint32_t max)
{
	uint32_t worker = *cursor >> 32, pos = *cursor & UINT32_MAX, n = 0;

	while (worker < dp->nb_workers) {
		n += dps_flow_read(dp->workers[worker], &pos, out + n, max - n);
		if (n == max)
			break;
		worker++;
		pos = 0;
	}
	*cursor = worker < dp->nb_workers ? (uint64_t)worker << 32 | pos : 0;
	return n;
}

void
dps_dataplane_count_flows(const struct dataplane *dp, uint32_t counts[FLOW_STATES][2])
{
	uint16_t i;

	memset(counts, 0, FLOW_STATES * sizeof(*counts));
	for (i = 0; i < dp->nb_workers; i++)
		dps_flow_count(dp->workers[i], counts);
}

/* All workers have the same. Nothing but a change writes it. */
uint32_t
dps_dataplane_generation(const struct dataplane *dp)
{
	return dp->workers[0]->generation;
}

void
dps_dataplane_flow_table(const struct dataplane *dp, struct flow_table *out)
{
	const struct worker *w;
	uint16_t i, s;

	*out = (struct flow_table){ 0 };
	for (i = 0; i < dp->nb_workers; i++) {
		w = dp->workers[i];
		out->flows += load_relaxed(&w->nb_flows);
		out->capacity += w->capacity;
		out->guaranteed += w->guaranteed;
		for (s = 0; s < MAX_SHARES; s++) {
			out->shares[s].flows += load_relaxed(&w->shares[s].flows);
			out->shares[s].evicted += load_relaxed(&w->shares[s].evicted);
			out->shares[s].overflow += load_relaxed(&w->shares[s].overflow);
		}
	}
}

/* Add one worker's nodes; the first worker's list is the longest, it alone has inject. */
static int
add_stats(const struct worker *w, struct node_stats *out, uint32_t *nb, uint32_t max)
{
	uint64_t calls, objs, cycles;
	struct rte_node *node;
	rte_graph_off_t off;
	rte_node_t count;
	uint32_t i;

	rte_graph_foreach_node(count, off, w->graph, node) {
		for (i = 0; i < *nb && strcmp(out[i].name, node->name) != 0; i++)
			;
		if (i == max)
			return -ENOSPC;
		if (i == *nb) {
			(*nb)++;
			out[i] = (struct node_stats){ 0 };
			memcpy(out[i].name, node->name, sizeof(out[i].name));
		}
		compat_node_counters(node, &calls, &objs, &cycles);
		out[i].calls += calls;
		out[i].objs += objs;
		out[i].cycles += cycles;
	}
	return 0;
}

int
dps_dataplane_stats(const struct dataplane *dp, struct node_stats *out, uint32_t max)
{
	uint32_t nb = 0;
	uint16_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < dp->nb_workers; i++)
		rc = add_stats(dp->workers[i], out, &nb, max);
	return rc < 0 ? rc : (int)nb;
}

void
dps_dataplane_drops(const struct dataplane *dp, uint64_t out[RTE_MAX_ETHPORTS][DROP_REASONS])
{
	const struct worker *w;
	uint16_t i, port, reason;

	memset(out, 0, RTE_MAX_ETHPORTS * sizeof(*out));
	for (i = 0; i < dp->nb_workers; i++) {
		w = dp->workers[i];
		for (port = 0; port < RTE_MAX_ETHPORTS; port++)
			for (reason = 0; reason < DROP_REASONS; reason++)
				out[port][reason] += load_relaxed(&w->drops[port][reason]);
	}
}

char *
dps_dataplane_dot(const struct dataplane *dp)
{
	char *text = NULL;
	size_t size;
	FILE *f;
	int rc;

	f = open_memstream(&text, &size);
	if (f == NULL)
		return NULL;
	rc = rte_graph_export(dp->workers[0]->graph->name, f);
	if (fclose(f) == 0 && rc == 0)
		return text;
	free(text);
	return NULL;
}
