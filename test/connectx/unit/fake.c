/* SPDX-License-Identifier: Apache-2.0 */

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "fake.h"

#define MAX_MADE 256
#define MAX_STATS 32

struct mlx5_glue fake_glue;
struct cx_dev fake_pf0, fake_pf1;
struct cx_profile fake_profile;
struct cx_domain *fdb, *rx, *tx, *rx1;
struct fake_seen fake_seen[FAKE_MAX_SEEN];
uint32_t fake_n;
struct fake_counter fake_counters[FAKE_COUNTERS];
uint32_t fake_aso_object, fake_aso_offset, fake_aso_hits;
const char *fake_fail;
char fake_refused[256];

static struct rte_mempool *pool;
static struct ibv_context contexts[2];

static struct {
	struct cx_vport *vport;
	const char *name;
	uint64_t n;
} stats[MAX_STATS];
static uint32_t stats_n;

/* What a test has made, and what takes it down. */
static struct {
	void *object;
	int (*destroy)(void *object);
} made[MAX_MADE];
static uint32_t made_n;

/* ---- card.h ---- */

struct cx_vport *
cx_vport_by_ib_port(struct cx_dev *dev, uint32_t ib_port)
{
	return ib_port >= 1 && ib_port <= dev->vports ? &dev->vport[ib_port - 1] : NULL;
}

struct cx_vport *
cx_vport_by_id(struct cx_dev *dev, uint16_t id)
{
	uint32_t i;

	for (i = 0; i < dev->vports; i++)
		if (dev->vport[i].id == id)
			return &dev->vport[i];
	return NULL;
}

struct cx_dev *
cx_dev_of(const struct ibv_context *context)
{
	return context == &contexts[0] ? &fake_pf0 : &fake_pf1;
}

struct rte_mempool *
cx_pool(void)
{
	return pool;
}

static void
see(enum fake_where where, struct cx_vport *v, uint32_t tirn, const struct cx_rx_meta *meta,
    struct rte_mbuf *m)
{
	struct fake_seen *seen = &fake_seen[fake_n++];

	assert_true(fake_n <= FAKE_MAX_SEEN);
	memset(seen, 0, sizeof(*seen));
	seen->where = where;
	seen->vport = v;
	seen->tirn = tirn;
	if (meta != NULL)
		seen->meta = *meta;
	assert_int_equal(m->nb_segs, 1);
	frame_bytes(&seen->frame, rte_pktmbuf_mtod(m, const void *), m->data_len);
	rte_pktmbuf_free(m);
}

void
cx_far_send(struct cx_vport *v, struct rte_mbuf *m)
{
	see(FAKE_FAR, v, 0, NULL, m);
}

void
cx_twin_receive(struct cx_vport *v, struct rte_mbuf *m)
{
	see(FAKE_TWIN, v, 0, NULL, m);
}

void
cx_tir_receive(uint32_t tirn, struct rte_mbuf *m, const struct cx_rx_meta *meta)
{
	see(FAKE_TIR, NULL, tirn, meta, m);
}

void
cx_counter_hit(uint32_t id, uint32_t bytes)
{
	assert_true(id < FAKE_COUNTERS);
	fake_counters[id].packets++;
	fake_counters[id].bytes += bytes;
}

void
cx_aso_flow_hit(uint32_t object, uint32_t offset)
{
	fake_aso_object = object;
	fake_aso_offset = offset;
	fake_aso_hits++;
}

/* The tests' handles are pointers to the numbers. */
uint32_t
cx_devx_id(const void *object)
{
	return *(const uint32_t *)object;
}

static int
fault(const char *what)
{
	if (fake_fail == NULL || strcmp(fake_fail, what) != 0)
		return 0;
	fake_fail = NULL;
	return ENOMEM;
}

int
cx_fault_create(const char *what)
{
	return fault(what);
}

int
cx_fault_destroy(const char *what)
{
	return fault(what);
}

int
cx_refuse(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(fake_refused, sizeof(fake_refused), format, args);
	va_end(args);
	errno = code;
	return code;
}

void
cx_stat(struct cx_vport *v, const char *name, uint64_t n)
{
	uint32_t i;

	for (i = 0; i < stats_n; i++)
		if (stats[i].vport == v && strcmp(stats[i].name, name) == 0)
			break;
	assert_true(i < MAX_STATS);
	if (i == stats_n)
		stats_n++;
	stats[i].vport = v;
	stats[i].name = name;
	stats[i].n += n;
}

uint64_t
fake_stat(const struct cx_vport *v, const char *name)
{
	uint32_t i;

	for (i = 0; i < stats_n; i++)
		if (stats[i].vport == v && strcmp(stats[i].name, name) == 0)
			return stats[i].n;
	return 0;
}

/* ---- around each test ---- */

static void
add_vport(struct cx_dev *dev, uint16_t id, const char *name)
{
	struct cx_vport *v = &dev->vport[dev->vports++];

	v->dev = dev;
	v->id = id;
	v->ib_port = dev->vports;
	v->meta_tag = (id == CX_VPORT_UPLINK ? 0xffu : id) << 16;
	snprintf(v->name, sizeof(v->name), "%s", name);
}

int
fake_setup(void **state)
{
	char prefix[32];
	char *args[] = { "unit",        "--no-huge",      "-m",  "64", "--no-pci",
			 "--no-shconf", "--no-telemetry", "-l",  "0",  "--log-level",
			 "lib.eal:4",   "--file-prefix",  prefix };

	(void)state;
	snprintf(prefix, sizeof(prefix), "cxunit%d", getpid());
	if (rte_eal_init(RTE_DIM(args), args) < 0)
		return -1;
	pool = rte_pktmbuf_pool_create("card", 255, 0, 0, RTE_PKTMBUF_HEADROOM + 2048, 0);
	fake_pf0.profile = fake_pf1.profile = &fake_profile;
	fake_pf1.pf = 1;
	fake_pf0.context = &contexts[0];
	fake_pf1.context = &contexts[1];
	add_vport(&fake_pf0, CX_VPORT_UPLINK, "pf0");
	add_vport(&fake_pf0, 1, "vf0");
	add_vport(&fake_pf0, 2, "vf1");
	add_vport(&fake_pf0, 3, "vf2");
	add_vport(&fake_pf1, CX_VPORT_UPLINK, "pf1");
	cx_steering_glue(&fake_glue);
	return pool == NULL ? -1 : cx_steering_start();
}

/* EAL leaves its (empty) runtime directory behind. */
int
fake_end(void **state)
{
	char *dir = strdup(rte_eal_get_runtime_dir());
	int ret;

	(void)state;
	rte_mempool_free(pool);
	ret = rte_eal_cleanup();
	if (dir == NULL || rmdir(dir) < 0)
		ret = -1;
	free(dir);
	return ret;
}

static void *
remember(void *object, int (*destroy)(void *))
{
	int error = errno;

	assert_true(made_n < MAX_MADE);
	if (object != NULL) {
		made[made_n].object = object;
		made[made_n++].destroy = destroy;
	}
	errno = error;
	return object;
}

static struct cx_domain *
domain(struct cx_dev *dev, enum mlx5dv_dr_domain_type type)
{
	struct cx_domain *d = remember(fake_glue.dr_create_domain(dev->context, type),
				       fake_glue.dr_destroy_domain);

	assert_non_null(d);
	return d;
}

int
fake_reset(void **state)
{
	(void)state;
	fake_profile.name = "cx6dx";
	fake_profile.steering_format = 1;
	fake_n = stats_n = fake_aso_hits = 0;
	memset(stats, 0, sizeof(stats));
	memset(fake_counters, 0, sizeof(fake_counters));
	fake_refused[0] = 0;
	fake_fail = NULL;
	fdb = domain(&fake_pf0, MLX5DV_DR_DOMAIN_TYPE_FDB);
	rx = domain(&fake_pf0, MLX5DV_DR_DOMAIN_TYPE_NIC_RX);
	tx = domain(&fake_pf0, MLX5DV_DR_DOMAIN_TYPE_NIC_TX);
	rx1 = domain(&fake_pf1, MLX5DV_DR_DOMAIN_TYPE_NIC_RX);
	return 0;
}

int
fake_check(void **state)
{
	struct cx_steering_counts counts;

	(void)state;
	while (made_n > 0) {
		made_n--;
		assert_int_equal(made[made_n].destroy(made[made_n].object), 0);
	}
	counts = cx_steering_counts();
	assert_int_equal(counts.rules + counts.matchers + counts.tables + counts.actions, 0);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	return 0;
}

/* ---- what tests make ---- */

void
match_bytes(struct match *m, uint32_t at, const void *value, uint32_t n)
{
	memset(m->mask + at + 16 - n, 0xff, n);
	memcpy(m->value + at + 16 - n, value, n);
}

void
match_ipv4(struct match *m, uint32_t at, const char *text)
{
	uint8_t bytes[4];

	assert_int_equal(inet_pton(AF_INET, text, bytes), 1);
	match_bytes(m, at, bytes, sizeof(bytes));
}

void
match_ipv6(struct match *m, uint32_t at, const char *text)
{
	uint8_t bytes[16];

	assert_int_equal(inet_pton(AF_INET6, text, bytes), 1);
	match_bytes(m, at, bytes, sizeof(bytes));
}

void
match_source(struct match *m, const struct cx_vport *v)
{
	MATCH(m, misc_parameters_2.metadata_reg_c_0, v->meta_tag, CX_META_MASK);
}

struct cx_table *
table(struct cx_domain *d, uint32_t level)
{
	return remember(fake_glue.dr_create_flow_tbl(d, level), fake_glue.dr_destroy_flow_tbl);
}

static struct mlx5dv_flow_match_parameters *
parameters(const uint8_t *fte)
{
	struct mlx5dv_flow_match_parameters *p = calloc(1, sizeof(*p) + CX_FTE_SIZE);

	assert_non_null(p);
	p->match_sz = CX_FTE_SIZE;
	memcpy(p->match_buf, fte, CX_FTE_SIZE);
	return p;
}

static uint8_t
criteria(const struct match *m)
{
	uint8_t bits = 0;
	uint32_t i;

	for (i = 0; i < CX_FTE_SIZE; i++)
		if (m->mask[i] != 0)
			bits |= 1 << i / CX_FTE_SECTION;
	return bits;
}

struct cx_matcher *
matcher(struct cx_table *t, uint16_t priority, const struct match *m)
{
	struct mlx5dv_flow_matcher_attr attr = {
		.priority = priority,
		.match_criteria_enable = criteria(m),
		.match_mask = parameters(m->mask),
	};
	void *made_matcher = fake_glue.dv_create_flow_matcher(NULL, &attr, t);
	int error = errno;

	free(attr.match_mask);
	errno = error;
	return remember(made_matcher, fake_glue.dv_destroy_flow_matcher);
}

struct cx_rule *
rule(struct cx_table *t, uint16_t priority, const struct match *m, ...)
{
	struct mlx5dv_flow_match_parameters *value;
	struct cx_matcher *of = matcher(t, priority, m);
	struct cx_action *action;
	void *actions[16], *r;
	size_t n = 0;
	va_list args;
	int error;

	if (of == NULL)
		return NULL;
	va_start(args, m);
	while ((action = va_arg(args, struct cx_action *)) != NULL)
		actions[n++] = action;
	va_end(args);
	value = parameters(m->value);
	r = fake_glue.dv_create_flow(of, value, n, actions);
	error = errno;
	free(value);
	errno = error;
	return remember(r, fake_glue.dv_destroy_flow);
}

struct cx_action *
keep(void *action)
{
	return remember(action, fake_glue.destroy_flow_action);
}

struct cx_action *
vport(struct cx_vport *to)
{
	return keep(fake_glue.dr_create_flow_action_dest_port(fdb, to->ib_port));
}

struct cx_action *
tir(uint32_t tirn)
{
	return keep(fake_glue.dv_create_flow_action_dest_devx_tir(&tirn));
}

struct cx_action *
counter(uint32_t id)
{
	return keep(fake_glue.dv_create_flow_action_counter(&id, 0));
}

struct cx_action *
flow_hit(uint32_t object, uint32_t offset)
{
	return keep(fake_glue.dv_create_flow_action_aso((void *)rx, &object, offset, FIRST_HIT, 5));
}

struct cx_action *
jump(struct cx_table *to)
{
	return keep(fake_glue.dr_create_flow_action_dest_flow_tbl(to));
}

struct cx_action *
drop(void)
{
	return keep(fake_glue.dr_create_flow_action_drop());
}

struct cx_action *
miss(void)
{
	return keep(fake_glue.dr_create_flow_action_default_miss());
}

struct cx_action *
mark(uint32_t tag)
{
	return keep(fake_glue.dv_create_flow_action_tag(tag));
}

struct cx_action *
pop_vlan(void)
{
	return keep(fake_glue.dr_create_flow_action_pop_vlan());
}

struct cx_action *
push_vlan(uint16_t type, uint16_t tci)
{
	rte_be32_t tag = rte_cpu_to_be_32((uint32_t)type << 16 | tci);

	return keep(fake_glue.dr_create_flow_action_push_vlan((void *)fdb, tag));
}

static struct cx_action *
modify(struct cx_domain *d, uint64_t command)
{
	return keep(fake_glue.dv_create_flow_action_modify_header(NULL, 0, d, 0, sizeof(command),
								  &command));
}

struct cx_action *
set(struct cx_domain *d, uint32_t field, uint32_t at, uint32_t bits, uint32_t value)
{
	uint64_t command = 0;

	MLX5_SET(set_action_in, &command, action_type, MLX5_MODIFICATION_TYPE_SET);
	MLX5_SET(set_action_in, &command, field, field);
	MLX5_SET(set_action_in, &command, offset, at);
	MLX5_SET(set_action_in, &command, length, bits);
	MLX5_SET(set_action_in, &command, data, value);
	return modify(d, command);
}

struct cx_action *
add(struct cx_domain *d, uint32_t field, uint32_t value)
{
	uint64_t command = 0;

	MLX5_SET(set_action_in, &command, action_type, MLX5_MODIFICATION_TYPE_ADD);
	MLX5_SET(set_action_in, &command, field, field);
	MLX5_SET(set_action_in, &command, data, value);
	return modify(d, command);
}

struct cx_action *
copy(struct cx_domain *d, uint32_t from, uint32_t to, uint32_t bits)
{
	uint64_t command = 0;

	MLX5_SET(copy_action_in, &command, action_type, MLX5_MODIFICATION_TYPE_COPY);
	MLX5_SET(copy_action_in, &command, src_field, from);
	MLX5_SET(copy_action_in, &command, dst_field, to);
	MLX5_SET(copy_action_in, &command, length, bits);
	return modify(d, command);
}

struct cx_action *
reformat(struct cx_domain *d, uint32_t type, const struct frame *header)
{
	size_t size = header == NULL ? 0 : header->len;
	void *data = header == NULL ? NULL : (void *)(uintptr_t)header->data;

	return keep(fake_glue.dv_create_flow_action_packet_reformat(NULL, type, 0, (void *)d, 0,
								    size, data));
}

struct cx_action *
mirror(struct cx_domain *d, struct cx_action *encap, struct cx_action *to, struct cx_action *and_to)
{
	struct mlx5dv_dr_action_dest_reformat with = { .reformat = (void *)encap,
						       .dest = (void *)to };
	struct mlx5dv_dr_action_dest_attr second = { .type = MLX5DV_DR_ACTION_DEST,
						     .dest = (void *)and_to };
	struct mlx5dv_dr_action_dest_attr first = { 0 };
	struct mlx5dv_dr_action_dest_attr *dests[] = { &first, &second };

	first.type = encap == NULL ? MLX5DV_DR_ACTION_DEST : MLX5DV_DR_ACTION_DEST_REFORMAT;
	if (encap == NULL)
		first.dest = (void *)to;
	else
		first.dest_reformat = &with;
	return keep(fake_glue.dr_create_flow_action_dest_array(d, 2, dests));
}

/* ---- frames ---- */

static struct rte_mbuf *
mbuf(const struct frame *f)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	char *data;

	assert_non_null(m);
	data = rte_pktmbuf_append(m, f->len);
	assert_non_null(data);
	memcpy(data, f->data, f->len);
	return m;
}

void
from_far(struct cx_vport *v, const struct frame *f)
{
	cx_steer_from_far(v, mbuf(f));
}

void
from_sq(struct cx_vport *v, uint32_t sqn, const struct frame *f)
{
	cx_steer_from_sq(v->dev, sqn, v, mbuf(f));
}

const struct frame *
came(enum fake_where where, const struct cx_vport *v)
{
	assert_int_equal(fake_n, 1);
	fake_n = 0;
	assert_int_equal(fake_seen[0].where, where);
	assert_ptr_equal(fake_seen[0].vport, v);
	return &fake_seen[0].frame;
}

void
nothing_came(void)
{
	assert_int_equal(fake_n, 0);
}

void
checksums_are_right(const struct frame *f)
{
	const struct rte_ipv6_hdr *ip6;
	const struct rte_ipv4_hdr *ip;
	struct esw_offsets off;
	struct esw_key key;
	const void *l4;

	esw_parse(f->data, f->len, &key, &off);
	ip = (const void *)(f->data + off.l3[0]);
	ip6 = (const void *)ip;
	l4 = f->data + off.l4[0];
	if (key.l3[0].version == 4)
		assert_int_equal(rte_raw_cksum(ip, sizeof(*ip)), 0xffff);
	if (off.l4[0] == 0 || key.l3[0].l4 != IPPROTO_TCP)
		return;
	if (key.l3[0].version == 4)
		assert_int_equal(rte_ipv4_udptcp_cksum_verify(ip, l4), 0);
	else
		assert_int_equal(rte_ipv6_udptcp_cksum_verify(ip6, l4), 0);
}
