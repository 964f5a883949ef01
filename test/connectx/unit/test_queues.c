/* SPDX-License-Identifier: Apache-2.0 */

/* DevX commands, queues and counters, driven as the driver drives them, with the frames of the
 * test's own. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_mempool.h>

#include <mlx5_glue.h>
#include <mlx5_prm.h>
#include <mlx5_common.h>

#include "../../net_eswitch/unit/frame.h"
#include "../device.h"

#define LOG_ENTRIES 4
#define ENTRIES (1u << LOG_ENTRIES)
#define ENTRY MLX5_WQE_SIZE
#define MAX_SENT 64

static struct mlx5_glue glue;
static struct cx_profile profile = { .name = "cx6dx", .steering_format = 1, .flow_hit_aso = true };
static struct cx_dev dev = { .profile = &profile, .vports = 1 };
static struct ibv_context context;
static struct rte_mempool *pool;
static char refused[256];
static struct frame sent[MAX_SENT];
static uint32_t n_sent;

/* ---- what is not part of these tests ---- */

struct cx_dev *
cx_dev_of(const struct ibv_context *c)
{
	(void)c;
	return &dev;
}

bool
cx_hca_failed(const struct cx_dev *d)
{
	(void)d;
	return false;
}

struct rte_mempool *
cx_pool(void)
{
	return pool;
}

struct rte_mbuf *
cx_buffer(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	if (m != NULL)
		m->data_off = CX_HEADROOM;
	return m;
}

void
cx_thread_wait(void)
{
}

void
cx_stat(struct cx_vport *vport, const char *name, uint64_t n)
{
	(void)vport;
	(void)name;
	(void)n;
}

int
cx_fault_create(const char *what)
{
	(void)what;
	return 0;
}

int
cx_fault_destroy(const char *what)
{
	(void)what;
	return 0;
}

int
cx_refuse(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(refused, sizeof(refused), format, args);
	va_end(args);
	errno = code;
	return code;
}

void
cx_steer_from_sq(struct cx_dev *d, uint32_t sqn, struct cx_vport *vport, struct rte_mbuf *m)
{
	(void)d;
	(void)sqn;
	(void)vport;
	if (n_sent < MAX_SENT) {
		sent[n_sent].len = m->pkt_len;
		memcpy(sent[n_sent++].data, rte_pktmbuf_mtod(m, void *), m->pkt_len);
	}
	rte_pktmbuf_free(m);
}

/* ---- queues as the driver makes them ---- */

struct queue {
	struct mlx5dv_devx_umem *umem;
	struct mlx5dv_devx_obj *object;
	uint8_t *memory;
	volatile uint32_t *doorbell;
	uint32_t id;
};

static struct queue cq, sq, rq;
static struct mlx5dv_devx_obj *td, *tis, *rqt, *tir;
static struct ibv_pd *pd;
static struct ibv_mr *mr;
static uint8_t *packets; /* of the driver's, under the key */
static uint16_t posted;

#define PACKETS_SIZE 65536

static struct mlx5dv_devx_obj *
create(const void *in, size_t in_size, void *out, size_t out_size)
{
	struct mlx5dv_devx_obj *object = glue.devx_obj_create(&context, in, in_size, out, out_size);

	assert_non_null(object);
	return object;
}

static void
allocate(struct queue *q, size_t size)
{
	q->memory = aligned_alloc(4096, cx_align(size + 64, 4096));
	assert_non_null(q->memory);
	memset(q->memory, 0, size + 64);
	q->doorbell = (uint32_t *)(q->memory + size);
	q->umem = glue.devx_umem_reg(&context, q->memory, size + 64, 0);
	assert_non_null(q->umem);
}

static void
make_cq(void)
{
	uint32_t in[MLX5_ST_SZ_DW(create_cq_in)] = { 0 }, out[MLX5_ST_SZ_DW(create_cq_out)];
	void *c = MLX5_ADDR_OF(create_cq_in, in, cq_context);
	struct mlx5_cqe *cqe;
	uint32_t i;

	allocate(&cq, sizeof(*cqe) * ENTRIES);
	MLX5_SET(create_cq_in, in, opcode, MLX5_CMD_OP_CREATE_CQ);
	MLX5_SET(cqc, c, dbr_umem_valid, 1);
	MLX5_SET(cqc, c, dbr_umem_id, cq.umem->umem_id);
	MLX5_SET64(cqc, c, dbr_addr, sizeof(*cqe) * ENTRIES);
	MLX5_SET(cqc, c, log_cq_size, LOG_ENTRIES);
	MLX5_SET(create_cq_in, in, cq_umem_valid, 1);
	MLX5_SET(create_cq_in, in, cq_umem_id, cq.umem->umem_id);
	cq.object = create(in, sizeof(in), out, sizeof(out));
	cq.id = MLX5_GET(create_cq_out, out, cqn);
	cqe = (struct mlx5_cqe *)cq.memory;
	for (i = 0; i < ENTRIES; i++)
		cqe[i].op_own = MLX5_CQE_INVALID << 4 | 1;
}

static void
fill_wq(void *wq, const struct queue *q, size_t size, uint32_t log_stride)
{
	MLX5_SET(wq, wq, wq_type, MLX5_WQ_TYPE_CYCLIC);
	MLX5_SET(wq, wq, wq_umem_valid, 1);
	MLX5_SET(wq, wq, wq_umem_id, q->umem->umem_id);
	MLX5_SET(wq, wq, dbr_umem_valid, 1);
	MLX5_SET(wq, wq, dbr_umem_id, q->umem->umem_id);
	MLX5_SET64(wq, wq, dbr_addr, size);
	MLX5_SET(wq, wq, log_wq_stride, log_stride);
	MLX5_SET(wq, wq, log_wq_sz, LOG_ENTRIES);
}

static int
modify_sq(uint32_t from, uint32_t to)
{
	uint32_t in[MLX5_ST_SZ_DW(modify_sq_in)] = { 0 }, out[MLX5_ST_SZ_DW(modify_sq_out)];

	MLX5_SET(modify_sq_in, in, opcode, MLX5_CMD_OP_MODIFY_SQ);
	MLX5_SET(modify_sq_in, in, sq_state, from);
	MLX5_SET(sqc, MLX5_ADDR_OF(modify_sq_in, in, ctx), state, to);
	return glue.devx_obj_modify(sq.object, in, sizeof(in), out, sizeof(out));
}

static void
make_sq(void)
{
	uint32_t in[MLX5_ST_SZ_DW(create_sq_in)] = { 0 }, out[MLX5_ST_SZ_DW(create_sq_out)];
	void *c = MLX5_ADDR_OF(create_sq_in, in, ctx);

	allocate(&sq, ENTRY * ENTRIES);
	MLX5_SET(create_sq_in, in, opcode, MLX5_CMD_OP_CREATE_SQ);
	MLX5_SET(sqc, c, cqn, cq.id);
	MLX5_SET(sqc, c, tis_lst_sz, 1);
	MLX5_SET(sqc, c, tis_num_0, cx_devx_id(tis));
	fill_wq(MLX5_ADDR_OF(sqc, c, wq), &sq, ENTRY * ENTRIES, 6);
	sq.object = create(in, sizeof(in), out, sizeof(out));
	sq.id = MLX5_GET(create_sq_out, out, sqn);
	assert_int_equal(modify_sq(MLX5_SQC_STATE_RST, MLX5_SQC_STATE_RDY), 0);
	posted = 0;
}

/* Two segments an entry. */
#define RQ_STRIDE 32

static void
make_rq(void)
{
	uint32_t in[MLX5_ST_SZ_DW(create_rq_in)] = { 0 }, out[MLX5_ST_SZ_DW(create_rq_out)];
	void *c = MLX5_ADDR_OF(create_rq_in, in, ctx);

	allocate(&rq, RQ_STRIDE * ENTRIES);
	MLX5_SET(create_rq_in, in, opcode, MLX5_CMD_OP_CREATE_RQ);
	MLX5_SET(rqc, c, cqn, cq.id);
	MLX5_SET(rqc, c, state, MLX5_RQC_STATE_RDY);
	MLX5_SET(rqc, c, counter_set_id, 3);
	fill_wq(MLX5_ADDR_OF(rqc, c, wq), &rq, RQ_STRIDE * ENTRIES, 5);
	rq.object = create(in, sizeof(in), out, sizeof(out));
	rq.id = MLX5_GET(create_rq_out, out, rqn);
}

static void
make_tir(const uint8_t *key, uint32_t fields)
{
	uint32_t in[MLX5_ST_SZ_DW(create_tir_in)] = { 0 }, out[MLX5_ST_SZ_DW(create_tir_out)];
	uint32_t rqt_in[MLX5_ST_SZ_DW(create_rqt_in) + 1] = { 0 },
						       rqt_out[MLX5_ST_SZ_DW(create_rqt_out)];
	void *c = MLX5_ADDR_OF(create_tir_in, in, ctx),
	     *r = MLX5_ADDR_OF(create_rqt_in, rqt_in, rqt_context);

	MLX5_SET(create_rqt_in, rqt_in, opcode, MLX5_CMD_OP_CREATE_RQT);
	MLX5_SET(rqtc, r, rqt_actual_size, 1);
	MLX5_SET(rqtc, r, rq_num[0], rq.id);
	rqt = create(rqt_in, sizeof(rqt_in), rqt_out, sizeof(rqt_out));
	MLX5_SET(create_tir_in, in, opcode, MLX5_CMD_OP_CREATE_TIR);
	MLX5_SET(tirc, c, disp_type, MLX5_TIRC_DISP_TYPE_INDIRECT);
	MLX5_SET(tirc, c, indirect_table, cx_devx_id(rqt));
	MLX5_SET(tirc, c, rx_hash_fn, MLX5_RX_HASH_FN_TOEPLITZ);
	memcpy(MLX5_ADDR_OF(tirc, c, rx_hash_toeplitz_key), key, 40);
	MLX5_SET(rx_hash_field_select, MLX5_ADDR_OF(tirc, c, rx_hash_field_selector_outer),
		 selected_fields, fields);
	tir = create(in, sizeof(in), out, sizeof(out));
}

static struct mlx5dv_devx_obj *
make_plain(uint16_t opcode)
{
	uint32_t in[MLX5_ST_SZ_DW(create_tis_in)] = { 0 }, out[MLX5_ST_SZ_DW(create_tis_out)];

	MLX5_SET(create_tis_in, in, opcode, opcode);
	return create(in, sizeof(in), out, sizeof(out));
}

static int
set_up(void **state)
{
	(void)state;
	refused[0] = '\0';
	n_sent = 0;
	packets = aligned_alloc(4096, PACKETS_SIZE);
	assert_non_null(packets);
	pd = glue.alloc_pd(&context);
	mr = glue.reg_mr(pd, packets, PACKETS_SIZE, 0);
	assert_non_null(mr);
	td = make_plain(MLX5_CMD_OP_ALLOC_TRANSPORT_DOMAIN);
	tis = make_plain(MLX5_CMD_OP_CREATE_TIS);
	make_cq();
	make_sq();
	make_rq();
	return 0;
}

static void
destroy(struct queue *q)
{
	assert_int_equal(glue.devx_obj_destroy(q->object), 0);
	assert_int_equal(glue.devx_umem_dereg(q->umem), 0);
	free(q->memory);
}

static int
tear_down(void **state)
{
	enum cx_type type;

	(void)state;
	if (tir != NULL) {
		assert_int_equal(glue.devx_obj_destroy(tir), 0);
		assert_int_equal(glue.devx_obj_destroy(rqt), 0);
		tir = NULL;
	}
	destroy(&rq);
	destroy(&sq);
	destroy(&cq);
	assert_int_equal(glue.devx_obj_destroy(tis), 0);
	assert_int_equal(glue.devx_obj_destroy(td), 0);
	assert_int_equal(glue.dereg_mr(mr), 0);
	assert_int_equal(glue.dealloc_pd(pd), 0);
	free(packets);
	for (type = CX_UMEM; type < CX_TYPES; type++)
		assert_int_equal(cx_object_count(type), 0);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	return 0;
}

/* ---- entries ---- */

static uint8_t wqe[MLX5_DSEG_MAX * 16];
static size_t wqe_size;

static void
put32(size_t at, uint32_t value)
{
	value = rte_cpu_to_be_32(value);
	memcpy(wqe + at, &value, sizeof(value));
}

static void
begin(uint32_t opcode)
{
	memset(wqe, 0, sizeof(wqe));
	put32(0, (uint32_t)posted << 8 | opcode);
	put32(8, MLX5_COMP_ALWAYS << MLX5_COMP_MODE_OFFSET);
	wqe_size = 32;
}

static void
add_pointer(uint32_t lkey, const void *address, uint32_t n)
{
	put32(wqe_size, n);
	put32(wqe_size + 4, lkey);
	put32(wqe_size + 8, (uintptr_t)address >> 32);
	put32(wqe_size + 12, (uintptr_t)address);
	wqe_size += 16;
}

static void
add_inline(const void *data, uint32_t n)
{
	put32(wqe_size, n | MLX5_ETH_WQE_DATA_INLINE);
	memcpy(wqe + wqe_size + 4, data, n);
	wqe_size += cx_align(4 + n, 16);
}

static void
post(void)
{
	uint32_t ring = ENTRY * ENTRIES, at = posted * ENTRY % ring, part;

	put32(4, sq.id << 8 | wqe_size / 16);
	part = RTE_MIN((uint32_t)wqe_size, ring - at);
	memcpy(sq.memory + at, wqe, part);
	memcpy(sq.memory, wqe + part, wqe_size - part);
	posted += cx_align(wqe_size, ENTRY) / ENTRY;
	sq.doorbell[MLX5_SND_DBR] = rte_cpu_to_be_32(posted);
}

static void
run(void)
{
	cx_sq_poll(cx_object_get(CX_SQ, sq.id));
}

/* The next completion, or NULL; as check_cqe of the driver. */
static struct mlx5_cqe *
completion(void)
{
	uint32_t ci = rte_be_to_cpu_32(cq.doorbell[0]);
	struct mlx5_cqe *cqe = (struct mlx5_cqe *)cq.memory + ci % ENTRIES;

	if (cqe->op_own >> 4 == MLX5_CQE_INVALID || (cqe->op_own & 1) != (ci / ENTRIES & 1))
		return NULL;
	cq.doorbell[0] = rte_cpu_to_be_32(ci + 1);
	return cqe;
}

static void
assert_sent(uint32_t n, const void *data, size_t size)
{
	assert_true(n < n_sent);
	assert_int_equal(sent[n].len, size);
	assert_memory_equal(sent[n].data, data, size);
}

static void
fill(uint8_t *to, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		to[i] = i * 7 + n;
}

/* ---- sending ---- */

static void
frames_are_gathered(void **state)
{
	uint8_t whole[300];

	(void)state;
	fill(packets, sizeof(whole));
	memcpy(whole, packets, sizeof(whole));
	begin(MLX5_OPCODE_SEND);
	add_pointer(mr->lkey, packets, 100);
	add_pointer(mr->lkey, packets + 100, 150);
	add_inline(packets + 250, 50);
	post();
	run();
	assert_sent(0, whole, sizeof(whole));
	assert_int_equal(completion()->op_own >> 4, MLX5_CQE_REQ);
	assert_null(completion());
}

static void
headers_are_inline(void **state)
{
	uint8_t whole[100];
	uint16_t size = rte_cpu_to_be_16(40);

	(void)state;
	fill(whole, sizeof(whole));
	memcpy(packets, whole + 40, 60);
	begin(MLX5_OPCODE_SEND);
	memcpy(wqe + 28, &size, sizeof(size));
	memcpy(wqe + 30, whole, 40);
	wqe_size = 80; /* 30 + 40, in whole segments */
	add_pointer(mr->lkey, packets, 60);
	post();
	run();
	assert_sent(0, whole, sizeof(whole));
}

static void
tags_are_inserted(void **state)
{
	uint8_t whole[64];

	(void)state;
	fill(packets, 60);
	memcpy(whole, packets, 12);
	memcpy(whole + 12, "\x81\x00\x20\x64", 4);
	memcpy(whole + 16, packets + 12, 48);
	begin(MLX5_OPCODE_SEND);
	put32(28, MLX5_ETH_WQE_VLAN_INSERT | 0x2064);
	add_pointer(mr->lkey, packets, 60);
	post();
	run();
	assert_sent(0, whole, sizeof(whole));
}

static void
one_entry_has_several_frames(void **state)
{
	(void)state;
	fill(packets, 1000);
	begin(MLX5_OPCODE_ENHANCED_MPSW);
	add_pointer(mr->lkey, packets, 60);
	add_inline(packets + 60, 61);
	add_pointer(mr->lkey, packets + 121, 300);
	post();
	run();
	assert_int_equal(n_sent, 3);
	assert_sent(0, packets, 60);
	assert_sent(1, packets + 60, 61);
	assert_sent(2, packets + 121, 300);
	assert_non_null(completion());
	assert_null(completion());
}

static void
queues_are_rings(void **state)
{
	uint32_t i;

	(void)state;
	fill(packets, 250);
	for (i = 0; i < 200; i++) {
		n_sent = 0;
		begin(MLX5_OPCODE_SEND);
		add_inline(packets, 60 + i % 190);
		post();
		run();
		assert_sent(0, packets, 60 + i % 190);
		assert_non_null(completion());
		assert_null(completion());
	}
}

static void
a_full_completion_queue_holds_sending_up(void **state)
{
	uint32_t i;

	(void)state;
	for (i = 0; i < 2 * ENTRIES; i++) {
		begin(MLX5_OPCODE_SEND);
		add_pointer(mr->lkey, packets, 60);
		post();
		run();
	}
	assert_int_equal(n_sent, ENTRIES);
	assert_non_null(completion());
	run();
	assert_int_equal(n_sent, ENTRIES + 1);
}

static void
completions_come_when_wanted(void **state)
{
	(void)state;
	begin(MLX5_OPCODE_SEND);
	put32(8, MLX5_COMP_ONLY_FIRST_ERR << MLX5_COMP_MODE_OFFSET);
	add_pointer(mr->lkey, packets, 60);
	post();
	run();
	assert_int_equal(n_sent, 1);
	assert_null(completion());
	begin(MLX5_OPCODE_NOP);
	post();
	run();
	assert_int_equal(rte_be_to_cpu_16(completion()->wqe_counter), 1);
}

/* The queue stops after an error, until it is reset. */
static void
expect_error(uint8_t syndrome, const char *why)
{
	const struct mlx5_error_cqe *error;

	post();
	run();
	error = (const struct mlx5_error_cqe *)completion();
	assert_non_null(error);
	assert_int_equal(error->op_own >> 4, MLX5_CQE_REQ_ERR);
	assert_int_equal(error->syndrome, syndrome);
	assert_non_null(strstr(refused, why));
	n_sent = 0;
	begin(MLX5_OPCODE_SEND);
	add_pointer(mr->lkey, packets, 60);
	post();
	run();
	assert_int_equal(n_sent, 0);
	assert_int_equal(modify_sq(MLX5_SQC_STATE_ERR, MLX5_SQC_STATE_RST), 0);
	assert_int_equal(modify_sq(MLX5_SQC_STATE_RST, MLX5_SQC_STATE_RDY), 0);
	posted = 0;
	run();
	assert_int_equal(n_sent, 0);
	begin(MLX5_OPCODE_SEND);
	add_pointer(mr->lkey, packets, 60);
	post();
	run();
	assert_int_equal(n_sent, 1);
	assert_non_null(completion());
	refused[0] = '\0';
}

static void
wrong_entries_are_refused(void **state)
{
	(void)state;
	begin(MLX5_OPCODE_SEND);
	add_pointer(mr->lkey + 0x100, packets, 60);
	expect_error(0x04, "does not exist");
	begin(MLX5_OPCODE_SEND);
	add_pointer(mr->lkey, packets + PACKETS_SIZE - 59, 60);
	expect_error(0x04, "outside of lkey");
	begin(MLX5_OPCODE_SEND);
	add_pointer(mr->lkey, packets - 1, 60);
	expect_error(0x04, "outside of lkey");
	begin(MLX5_OPCODE_WAIT);
	expect_error(0x02, "WQE of opcode 0xf");
	begin(MLX5_OPCODE_SEND);
	wqe[21] = 1;
	add_pointer(mr->lkey, packets, 60);
	expect_error(0x02, "software parser");
	begin(MLX5_OPCODE_ACCESS_ASO | ASO_OPC_MOD_POLICER << WQE_CSEG_OPC_MOD_OFFSET);
	wqe_size = 128;
	expect_error(0x02, "ACCESS_ASO: modifier 0x2");
}

/* No bytes in a queue make the card read or write where it may not. */
static void
random_entries_do_no_harm(void **state)
{
	static const uint8_t opcodes[] = { MLX5_OPCODE_SEND, MLX5_OPCODE_ENHANCED_MPSW,
					   MLX5_OPCODE_TSO, MLX5_OPCODE_ACCESS_ASO };
	uint32_t i, j;

	(void)state;
	srandom(9);
	for (i = 0; i < 20000; i++) {
		begin(opcodes[random() % 4]);
		wqe_size = 16 * (1 + random() % MLX5_DSEG_MAX);
		for (j = 8; j < wqe_size; j++)
			wqe[j] = random() % 4 == 0 ? random() : 0;
		for (j = 32; j + 16 <= wqe_size; j += 16)
			if (random() % 2 == 0) {
				put32(j, random() % 3000);
				put32(j + 4, mr->lkey);
				put32(j + 8, (uintptr_t)packets >> 32);
				put32(j + 12, (uintptr_t)packets + random() % PACKETS_SIZE);
			}
		n_sent = 0;
		post();
		run();
		while (completion() != NULL)
			;
		if (((const uint32_t *)sq.doorbell)[MLX5_SND_DBR] != 0 &&
		    modify_sq(MLX5_SQC_STATE_ERR, MLX5_SQC_STATE_RST) == 0) {
			assert_int_equal(modify_sq(MLX5_SQC_STATE_RST, MLX5_SQC_STATE_RDY), 0);
			posted = 0;
		}
	}
}

/* ---- receiving ---- */

static uint16_t offered;

/* An entry of two pieces. */
static void
offer(uint32_t first, uint32_t second)
{
	struct mlx5_wqe_data_seg *segment = (void *)(rq.memory + offered % ENTRIES * RQ_STRIDE);

	segment[0].byte_count = rte_cpu_to_be_32(first);
	segment[0].lkey = rte_cpu_to_be_32(mr->lkey);
	segment[0].addr = rte_cpu_to_be_64((uintptr_t)packets);
	segment[1].byte_count = rte_cpu_to_be_32(second);
	segment[1].lkey = rte_cpu_to_be_32(mr->lkey);
	segment[1].addr = rte_cpu_to_be_64((uintptr_t)packets + 1000);
	rq.doorbell[MLX5_RCV_DBR] = rte_cpu_to_be_32(++offered);
}

static void
arrive(const struct frame *f, const struct cx_rx_meta *meta)
{
	struct rte_mbuf *m = cx_buffer();

	assert_non_null(m);
	memcpy(rte_pktmbuf_append(m, f->len), f->data, f->len);
	cx_tir_receive(cx_devx_id(tir), m, meta);
}

#define RX_FIELD(name) (1u << MLX5_RX_HASH_FIELD_SELECT_SELECTED_FIELDS_##name)

/* The key and a tuple of Microsoft's verification suite for RSS. */
static const uint8_t rss_key[40] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
	0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
	0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

static struct frame
rss_frame(void)
{
	struct frame f = { 0 };

	frame_eth(&f, MAC_B, MAC_A, 0x0800);
	frame_ipv4(&f, "66.9.149.187", "161.142.100.80", 6, 64, 20);
	frame_tcp(&f, 2794, 1766, 0x10);
	return f;
}

static void
hashes_are_toeplitz(void **state)
{
	const struct cx_rx_meta meta = { 0 };
	struct frame f = rss_frame();

	(void)state;
	offered = 0;
	make_tir(rss_key,
		 RX_FIELD(SRC_IP) | RX_FIELD(DST_IP) | RX_FIELD(L4_SPORT) | RX_FIELD(L4_DPORT));
	offer(2000, 0);
	arrive(&f, &meta);
	assert_int_equal(rte_be_to_cpu_32(completion()->rx_hash_res), 0x51ccc178);
	assert_int_equal(glue.devx_obj_destroy(tir), 0);
	assert_int_equal(glue.devx_obj_destroy(rqt), 0);
	make_tir(rss_key, RX_FIELD(SRC_IP) | RX_FIELD(DST_IP));
	offer(2000, 0);
	arrive(&f, &meta);
	assert_int_equal(rte_be_to_cpu_32(completion()->rx_hash_res), 0x323e8fc2);
}

static void
frames_are_scattered(void **state)
{
	const struct cx_rx_meta meta = { .marked = true, .mark = 0x123456, .reg_b = 77 };
	struct frame f = rss_frame();
	struct mlx5_cqe *cqe;

	(void)state;
	offered = 0;
	make_tir(rss_key, 0);
	offer(20, 100);
	arrive(&f, &meta);
	assert_memory_equal(packets, f.data, 20);
	assert_memory_equal(packets + 1000, f.data + 20, f.len - 20);
	cqe = completion();
	assert_int_equal(rte_be_to_cpu_32(cqe->byte_cnt), f.len);
	assert_int_equal(rte_be_to_cpu_32(cqe->sop_drop_qpn), 0x123456);
	assert_int_equal(rte_be_to_cpu_32(cqe->flow_table_metadata), 77);
	/* No entry is left; and one that is too small. */
	arrive(&f, &meta);
	assert_null(completion());
	assert_int_equal(cx_q_counter_read(3, true), 1);
	offer(20, 20);
	arrive(&f, &meta);
	assert_null(completion());
}

/* ---- counters ---- */

static void
counters_are_read_and_cleared(void **state)
{
	uint32_t in[MLX5_ST_SZ_DW(alloc_flow_counter_in)] = { 0 },
		 out[MLX5_ST_SZ_DW(alloc_flow_counter_out)];
	uint32_t query[MLX5_ST_SZ_DW(query_flow_counter_in)] = { 0 };
	uint32_t answer[MLX5_ST_SZ_DW(query_flow_counter_out) + MLX5_ST_SZ_DW(traffic_counter)];
	struct mlx5dv_devx_cmd_comp *commands = glue.devx_create_cmd_comp(&context);
	struct {
		uint64_t wr_id;
		uint8_t rest[sizeof(answer)];
	} done;
	const uint64_t *in_memory = (const uint64_t *)packets;
	struct mlx5dv_devx_obj *bulk;
	uint32_t id;

	(void)state;
	MLX5_SET(alloc_flow_counter_in, in, opcode, MLX5_CMD_OP_ALLOC_FLOW_COUNTER);
	MLX5_SET(alloc_flow_counter_in, in, flow_counter_bulk, 4);
	bulk = create(in, sizeof(in), out, sizeof(out));
	id = MLX5_GET(alloc_flow_counter_out, out, flow_counter_id);
	cx_counter_hit(id + 511, 100);
	cx_counter_hit(id + 511, 50);
	cx_counter_hit(id + 512, 1);
	assert_non_null(strstr(refused, "does not exist"));

	MLX5_SET(query_flow_counter_in, query, opcode, MLX5_CMD_OP_QUERY_FLOW_COUNTER);
	MLX5_SET(query_flow_counter_in, query, flow_counter_id, id);
	MLX5_SET(query_flow_counter_in, query, num_of_counters, 512);
	MLX5_SET(query_flow_counter_in, query, dump_to_memory, 1);
	MLX5_SET(query_flow_counter_in, query, mkey, mr->lkey);
	MLX5_SET64(query_flow_counter_in, query, address, (uintptr_t)packets);
	assert_int_equal(glue.devx_get_async_cmd_comp(commands, (void *)&done, sizeof(done)),
			 EAGAIN);
	assert_int_equal(
		glue.devx_obj_query_async(bulk, query, sizeof(query), sizeof(answer), 42, commands),
		0);
	assert_int_equal(glue.devx_get_async_cmd_comp(commands, (void *)&done, sizeof(done)), 0);
	assert_int_equal(done.wr_id, 42);
	assert_int_equal(glue.devx_get_async_cmd_comp(commands, (void *)&done, sizeof(done)),
			 EAGAIN);
	assert_int_equal(rte_be_to_cpu_64(in_memory[2 * 511]), 2);
	assert_int_equal(rte_be_to_cpu_64(in_memory[2 * 511 + 1]), 150);
	assert_int_equal(in_memory[2 * 510], 0);

	MLX5_SET(query_flow_counter_in, query, num_of_counters, 513);
	assert_int_not_equal(
		glue.devx_obj_query(bulk, query, sizeof(query), answer, sizeof(answer)), 0);
	MLX5_SET(query_flow_counter_in, query, dump_to_memory, 0);
	MLX5_SET(query_flow_counter_in, query, flow_counter_id, id + 511);
	MLX5_SET(query_flow_counter_in, query, clear, 1);
	assert_int_equal(glue.devx_obj_query(bulk, query, sizeof(query), answer, sizeof(answer)),
			 0);
	assert_int_equal(MLX5_GET64(traffic_counter,
				    MLX5_ADDR_OF(query_flow_counter_out, answer, flow_statistics),
				    packets),
			 2);
	assert_int_equal(glue.devx_obj_query(bulk, query, sizeof(query), answer, sizeof(answer)),
			 0);
	assert_int_equal(MLX5_GET64(traffic_counter,
				    MLX5_ADDR_OF(query_flow_counter_out, answer, flow_statistics),
				    packets),
			 0);
	assert_int_equal(glue.devx_obj_destroy(bulk), 0);
	glue.devx_destroy_cmd_comp(commands);
}

/* As when an application waits for a queue's interrupt. */
static void
events_come_when_armed(void **state)
{
	struct mlx5dv_devx_event_channel *channel = glue.devx_create_event_channel(&context, 0);
	struct mlx5dv_devx_async_event_hdr event;
	uint16_t completions[] = { 0 }, others[] = { MLX5_EVENT_TYPE_SRQ_LIMIT_REACHED };

	(void)state;
	assert_int_equal(glue.devx_subscribe_devx_event(channel, cq.object, sizeof(completions),
							completions, 42),
			 0);
	assert_int_not_equal(
		glue.devx_subscribe_devx_event(channel, cq.object, sizeof(others), others, 42), 0);
	begin(MLX5_OPCODE_NOP);
	post();
	run();
	cx_cq_poll(cx_object_get(CX_CQ, cq.id));
	assert_int_equal(glue.devx_get_event(channel, &event, sizeof(event)), -1);
	assert_int_equal(errno, EAGAIN);
	cq.doorbell[1] = rte_cpu_to_be_32(1u << 28); /* the first time, nothing read yet */
	cx_cq_poll(cx_object_get(CX_CQ, cq.id));
	cx_cq_poll(cx_object_get(CX_CQ, cq.id));
	assert_int_equal(glue.devx_get_event(channel, &event, sizeof(event)), sizeof(event));
	assert_int_equal(event.cookie, 42);
	assert_int_equal(glue.devx_get_event(channel, &event, sizeof(event)), -1);
	assert_non_null(completion());
	cq.doorbell[1] = rte_cpu_to_be_32(2u << 28 | 1);
	cx_cq_poll(cx_object_get(CX_CQ, cq.id));
	assert_int_equal(glue.devx_get_event(channel, &event, sizeof(event)), -1);
	begin(MLX5_OPCODE_NOP);
	post();
	run();
	cx_cq_poll(cx_object_get(CX_CQ, cq.id));
	assert_int_equal(glue.devx_get_event(channel, &event, sizeof(event)), sizeof(event));
	glue.devx_destroy_event_channel(channel);
	cx_cq_poll(cx_object_get(CX_CQ, cq.id));
}

/* Flow 0 is the lowest bit of the last byte, as mlx5_aso_age_action_update reads them. */
static void
flow_hits_are_read_and_cleared(void **state)
{
	uint32_t in[MLX5_ST_SZ_DW(create_flow_hit_aso_in)] = { 0 },
		 out[MLX5_ST_SZ_DW(general_obj_out_cmd_hdr)];
	struct mlx5_aso_wqe *aso = (struct mlx5_aso_wqe *)wqe;
	struct mlx5dv_devx_obj *object;
	uint32_t id, i;

	(void)state;
	MLX5_SET(general_obj_in_cmd_hdr, in, opcode, MLX5_CMD_OP_CREATE_GENERAL_OBJECT);
	MLX5_SET(general_obj_in_cmd_hdr, in, obj_type, MLX5_GENERAL_OBJ_TYPE_FLOW_HIT_ASO);
	object = create(in, sizeof(in), out, sizeof(out));
	id = MLX5_GET(general_obj_out_cmd_hdr, out, obj_id);
	cx_aso_flow_hit(id, 0);
	cx_aso_flow_hit(id, 13);
	cx_aso_flow_hit(id, 511);
	for (i = 0; i < 2; i++) {
		begin(MLX5_OPCODE_ACCESS_ASO | ASO_OPC_MOD_FLOW_HIT << WQE_CSEG_OPC_MOD_OFFSET);
		aso->general_cseg.misc = rte_cpu_to_be_32(id);
		aso->aso_cseg.va_h = rte_cpu_to_be_32((uintptr_t)packets >> 32);
		aso->aso_cseg.va_l_r = rte_cpu_to_be_32((uint32_t)(uintptr_t)packets | 1);
		aso->aso_cseg.lkey = rte_cpu_to_be_32(mr->lkey);
		aso->aso_cseg.operand_masks =
			rte_cpu_to_be_32(ASO_OPER_LOGICAL_OR << ASO_CSEG_COND_OPER_OFFSET |
					 ASO_OP_ALWAYS_TRUE << ASO_CSEG_COND_1_OPER_OFFSET |
					 ASO_OP_ALWAYS_TRUE << ASO_CSEG_COND_0_OPER_OFFSET |
					 BYTEWISE_64BYTE << ASO_CSEG_DATA_MASK_MODE_OFFSET);
		aso->aso_cseg.data_mask = UINT64_MAX;
		wqe_size = sizeof(*aso);
		post();
		run();
		assert_int_equal(completion()->op_own >> 4, MLX5_CQE_REQ);
		assert_int_equal(packets[63], i == 0 ? 0x01 : 0);
		assert_int_equal(packets[62], i == 0 ? 0x20 : 0);
		assert_int_equal(packets[0], i == 0 ? 0x80 : 0);
	}
	assert_int_equal(glue.devx_obj_destroy(object), 0);
}

static void
unknown_commands_are_refused(void **state)
{
	uint32_t in[MLX5_ST_SZ_DW(create_qp_in)] = { 0 }, out[MLX5_ST_SZ_DW(create_qp_out)];

	(void)state;
	MLX5_SET(create_qp_in, in, opcode, MLX5_CMD_OP_CREATE_QP);
	assert_null(glue.devx_obj_create(&context, in, sizeof(in), out, sizeof(out)));
	assert_int_equal(MLX5_GET(create_qp_out, out, status), 2);
	assert_non_null(strstr(refused, "0x500"));
	MLX5_SET(create_qp_in, in, opcode, MLX5_CMD_OP_QUERY_LAG);
	assert_int_not_equal(glue.devx_general_cmd(&context, in, sizeof(in), out, sizeof(out)), 0);
	assert_non_null(strstr(refused, "0x842"));
}

static int
start(void **state)
{
	char *args[] = { "test",        "--no-huge",     "-m", "64", "--no-pci", "--no-telemetry",
			 "--no-shconf", "--log-level=3", NULL };

	(void)state;
	if (rte_eal_init(RTE_DIM(args) - 1, args) < 0)
		return -1;
	pool = rte_pktmbuf_pool_create("card", 1023, 0, 0, 4096, SOCKET_ID_ANY);
	dev.context = &context;
	dev.vport[0] = (struct cx_vport){
		.dev = &dev, .id = CX_VPORT_UPLINK, .ib_port = 1, .name = "pf0"
	};
	cx_memory_glue(&glue);
	cx_devx_glue(&glue);
	cx_event_glue(&glue);
	return pool == NULL ? -1 : 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_are_gathered),
		TEST(headers_are_inline),
		TEST(tags_are_inserted),
		TEST(one_entry_has_several_frames),
		TEST(queues_are_rings),
		TEST(a_full_completion_queue_holds_sending_up),
		TEST(completions_come_when_wanted),
		TEST(wrong_entries_are_refused),
		TEST(random_entries_do_no_harm),
		TEST(hashes_are_toeplitz),
		TEST(frames_are_scattered),
		TEST(counters_are_read_and_cleared),
		TEST(events_come_when_armed),
		TEST(flow_hits_are_read_and_cleared),
		TEST(unknown_commands_are_refused),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
