/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Send queues: work queue entries (WQEs) become frames. Layouts: ConnectX programmer's manual,
 * mlx5_prm.h and mlx5_tx.h of the driver. An entry that is wrong, or unknown, ends in an error
 * completion, and the queue stops until it is reset.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mempool.h>
#include <rte_tcp.h>

#include "mlx5_glue.h"
#include "mlx5_prm.h"
#include "mlx5_common.h"

#include "device.h"

/* Entries of a queue that are looked at in one round, so that all queues get their turn. */
#define BUDGET 64

/* Buffers that most entries need at most; a queue waits until there are so many. */
#define ENTRY_BUFFERS 256

#define SEGMENT MLX5_WSEG_SIZE
#define MAX_ENTRY (MLX5_DSEG_MAX * SEGMENT)

/* In the Ethernet segment, as seen from the entry's beginning. */
#define ETH_CS_FLAGS 20
#define ETH_SWP_FLAGS 21
#define ETH_MSS 22
#define ETH_INLINE 28
#define ETH_INLINE_DATA 30
#define ETH_END 32

#define L3_CSUM (1u << 6)
#define L4_CSUM (1u << 7)

/* Syndromes of error completions. */
#define LOCAL_LENGTH_ERROR 0x01
#define LOCAL_QP_ERROR 0x02
#define LOCAL_PROTECTION_ERROR 0x04

/* The largest header that is repeated in front of each segment of a TSO entry
 * (MLX5_MAX_TSO_HEADER). */
#define MAX_TSO_HEADER 256

struct sq {
	struct cx_object object;
	uint8_t *wqes;
	_Atomic uint32_t *doorbell;
	uint32_t log_size;
	uint32_t cqn;
	_Atomic uint32_t state;
	uint16_t ci;
	bool sends; /* frames; else it has ASO entries only */
};

/* An entry, as one piece; what is left of its data segments. */
struct entry {
	struct sq *sq;
	uint8_t bytes[MAX_ENTRY] __attribute__((aligned(16)));
	size_t size;
	size_t at;           /* the next data segment */
	const uint8_t *data; /* of the one that is being read */
	size_t left;
	uint8_t syndrome; /* why it cannot be carried out; 0: it can */
};

static bool busy;

bool
cx_sq_busy(void)
{
	bool was = busy;

	busy = false;
	return was;
}

int
cx_sq_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	const void *context = MLX5_ADDR_OF(create_sq_in, in, ctx);
	const void *wq = MLX5_ADDR_OF(sqc, context, wq);
	uint32_t log_size = MLX5_GET(wq, wq, log_wq_sz);
	struct sq *sq;
	int ret;

	if (MLX5_GET(sqc, context, hairpin) || MLX5_GET(sqc, context, non_wire) ||
	    MLX5_GET(sqc, context, static_sq_wq) || MLX5_GET(sqc, context, cd_master) ||
	    MLX5_GET(sqc, context, packet_pacing_rate_limit_index))
		return cx_refuse(
			ENOTSUP,
			"CREATE_SQ: hairpin, non_wire, static_sq_wq, cd_master or packet pacing");
	if (MLX5_GET(wq, wq, wq_type) != MLX5_WQ_TYPE_CYCLIC ||
	    1u << MLX5_GET(wq, wq, log_wq_stride) != MLX5_WQE_SIZE ||
	    !MLX5_GET(wq, wq, wq_umem_valid) || !MLX5_GET(wq, wq, dbr_umem_valid))
		return cx_refuse(
			ENOTSUP,
			"CREATE_SQ: a work queue that is not cyclic, of 64 bytes an entry, in umems");
	sq = calloc(1, sizeof(*sq));
	if (sq == NULL)
		return ENOMEM;
	sq->log_size = log_size;
	sq->cqn = MLX5_GET(sqc, context, cqn);
	store_relaxed(&sq->state, MLX5_GET(sqc, context, state));
	sq->sends = MLX5_GET(sqc, context, tis_lst_sz) != 0;
	sq->wqes = cx_umem_at(MLX5_GET(wq, wq, wq_umem_id), MLX5_GET64(wq, wq, wq_umem_offset),
			      (uint64_t)MLX5_WQE_SIZE << log_size);
	sq->doorbell = cx_umem_at(MLX5_GET(wq, wq, dbr_umem_id), MLX5_GET64(wq, wq, dbr_addr),
				  2 * sizeof(uint32_t));
	if (sq->wqes == NULL || sq->doorbell == NULL)
		ret = cx_refuse(EFAULT, "CREATE_SQ: entries or doorbell outside of their umem");
	else if (cx_object_get(CX_CQ, sq->cqn) == NULL)
		ret = cx_refuse(EINVAL, "CREATE_SQ: there is no completion queue %#x", sq->cqn);
	else if (sq->sends && cx_object_get(CX_TIS, MLX5_GET(sqc, context, tis_num_0)) == NULL)
		ret = cx_refuse(EINVAL, "CREATE_SQ: there is no TIS %#x",
				MLX5_GET(sqc, context, tis_num_0));
	else
		ret = cx_object_add(dev, CX_SQ, sq);
	if (ret != 0) {
		free(sq);
		return ret;
	}
	*id = sq->object.id;
	MLX5_SET(create_sq_out, out, sqn, sq->object.id);
	return 0;
}

int
cx_sq_modify(uint32_t id, const void *in)
{
	const void *context = MLX5_ADDR_OF(modify_sq_in, in, ctx);
	struct sq *sq = cx_object_get(CX_SQ, id);
	uint32_t from = MLX5_GET(modify_sq_in, in, sq_state), to = MLX5_GET(sqc, context, state);
	uint32_t state;

	if (sq == NULL)
		return cx_refuse(EINVAL, "MODIFY_SQ: there is no send queue %#x", id);
	state = load_relaxed(&sq->state);
	/* A queue may have met an error since the driver has looked. */
	if (from != state && !(from == MLX5_SQC_STATE_RDY && state == MLX5_SQC_STATE_ERR))
		return cx_refuse(EINVAL, "MODIFY_SQ: from state %u, but the queue is in %u", from,
				 state);
	atomic_store_explicit(&sq->state, to, memory_order_release);
	if (to == MLX5_SQC_STATE_RST) {
		cx_thread_wait();
		sq->ci = 0;
		/* A card learns of entries through the UAR; here it is the record that counts, and
		 * the driver leaves it. */
		store_relaxed(&sq->doorbell[MLX5_SND_DBR], 0);
	}
	return 0;
}

static uint16_t
read16(const uint8_t *at)
{
	rte_be16_t n;

	memcpy(&n, at, sizeof(n));
	return rte_be_to_cpu_16(n);
}

static uint32_t
read32(const uint8_t *at)
{
	rte_be32_t n;

	memcpy(&n, at, sizeof(n));
	return rte_be_to_cpu_32(n);
}

static uint64_t
read64(const uint8_t *at)
{
	return (uint64_t)read32(at) << 32 | read32(at + 4);
}

/* Goes to the next data segment; false when there is none, or it is wrong. */
static bool
next_segment(struct entry *e)
{
	uint32_t count;

	do {
		if (e->at + SEGMENT > e->size)
			return false;
		count = read32(e->bytes + e->at);
		if (count & MLX5_ETH_WQE_DATA_INLINE) {
			count &= ~MLX5_ETH_WQE_DATA_INLINE;
			if (count > e->size - e->at - sizeof(count)) {
				e->syndrome = LOCAL_LENGTH_ERROR;
				return false;
			}
			e->data = e->bytes + e->at + sizeof(count);
			e->at += cx_align(sizeof(count) + count, SEGMENT);
		} else {
			e->data = cx_dma(read32(e->bytes + e->at + 4), read64(e->bytes + e->at + 8),
					 count);
			if (e->data == NULL) {
				e->syndrome = LOCAL_PROTECTION_ERROR;
				return false;
			}
			e->at += SEGMENT;
		}
	} while (count == 0);
	e->left = count;
	return true;
}

/* Takes up to max bytes of the entry's data; false when they do not fit into the buffer. */
static bool
gather(struct entry *e, struct rte_mbuf *m, size_t max)
{
	while (max > 0 && (e->left > 0 || next_segment(e))) {
		size_t n = RTE_MIN(max, e->left);
		char *to = rte_pktmbuf_append(m, n);

		if (to == NULL)
			return false;
		memcpy(to, e->data, n);
		e->data += n;
		e->left -= n;
		max -= n;
	}
	return true;
}

/* The checksums that the entry wants: of the outermost headers, and of those within a tunnel. */
static void
set_checksums(struct entry *e, struct rte_mbuf *m)
{
	uint8_t flags = e->bytes[ETH_CS_FLAGS];
	struct cx_headers outer, inner;

	if (flags == 0 || !cx_headers_parse(m, 0, true, &outer))
		return;
	if (flags & (MLX5_ETH_WQE_L3_INNER_CSUM | MLX5_ETH_WQE_L4_INNER_CSUM) &&
	    cx_headers_inner(m, &outer, &inner)) {
		if (flags & MLX5_ETH_WQE_L3_INNER_CSUM)
			cx_checksum_set_l3(m, &inner);
		if (flags & MLX5_ETH_WQE_L4_INNER_CSUM)
			cx_checksum_set_l4(m, &inner);
	}
	if (flags & L3_CSUM)
		cx_checksum_set_l3(m, &outer);
	if (flags & L4_CSUM)
		cx_checksum_set_l4(m, &outer);
}

/* The frame goes where steering says. */
static void
emit(struct entry *e, struct rte_mbuf *m)
{
	struct cx_dev *dev = e->sq->object.dev;
	uint32_t inline_header = read32(e->bytes + ETH_INLINE);

	if (m->pkt_len < RTE_ETHER_HDR_LEN) {
		cx_stat(&dev->vport[0], "sq_too_short", 1);
		rte_pktmbuf_free(m);
		return;
	}
	set_checksums(e, m);
	if (inline_header & MLX5_ETH_WQE_VLAN_INSERT &&
	    cx_vlan_insert(m, RTE_ETHER_TYPE_VLAN, inline_header & 0xffff) != 0) {
		cx_stat(&dev->vport[0], "sq_too_long", 1);
		rte_pktmbuf_free(m);
		return;
	}
	cx_stat(&dev->vport[0], "sq_packets", 1);
	cx_steer_from_sq(dev, e->sq->object.id, &dev->vport[0], m);
}

static void
drop_too_long(struct entry *e, struct rte_mbuf *m)
{
	cx_stat(&e->sq->object.dev->vport[0], "sq_too_long", 1);
	rte_pktmbuf_free(m);
}

/* How many bytes of the frame are in the Ethernet segment and behind it; they are put in front. */
static bool
take_inline(struct entry *e, struct rte_mbuf *m)
{
	uint32_t n = read16(e->bytes + ETH_INLINE);
	char *to;

	e->at = ETH_END;
	if (n == 0 || n & 0x8000) /* a VLAN to insert instead */
		return true;
	if (ETH_INLINE_DATA + n > e->size) {
		e->syndrome = LOCAL_LENGTH_ERROR;
		return false;
	}
	to = rte_pktmbuf_append(m, n);
	if (to == NULL) {
		e->syndrome = LOCAL_LENGTH_ERROR;
		return false;
	}
	memcpy(to, e->bytes + ETH_INLINE_DATA, n);
	e->at = cx_align(ETH_INLINE_DATA + n, SEGMENT);
	return true;
}

static bool
has_software_parser(struct entry *e)
{
	if (e->bytes[ETH_SWP_FLAGS] == 0)
		return false;
	cx_refuse(ENOTSUP, "SEND: software parser flags %#x", e->bytes[ETH_SWP_FLAGS]);
	e->syndrome = LOCAL_QP_ERROR;
	return true;
}

static void
send_frame(struct entry *e)
{
	struct rte_mbuf *m;

	if (has_software_parser(e))
		return;
	m = cx_buffer();
	if (m == NULL)
		return cx_stat(&e->sq->object.dev->vport[0], "no_buffer", 1);
	if (!take_inline(e, m))
		return rte_pktmbuf_free(m);
	if (!gather(e, m, SIZE_MAX))
		return drop_too_long(e, m);
	if (e->syndrome != 0)
		return rte_pktmbuf_free(m);
	emit(e, m);
}

/* Each data segment is a frame of its own. */
static void
send_frames(struct entry *e)
{
	e->at = ETH_END;
	if (has_software_parser(e))
		return;
	while (next_segment(e)) {
		struct rte_mbuf *m = cx_buffer();

		if (m == NULL) {
			cx_stat(&e->sq->object.dev->vport[0], "no_buffer", 1);
			e->left = 0;
		} else if (!gather(e, m, e->left)) {
			drop_too_long(e, m);
			e->left = 0;
		} else {
			emit(e, m);
		}
	}
}

/* What changes from one segment of a TCP stream to the next. */
static void
number_segment(struct rte_mbuf *m, const struct cx_headers *h, uint32_t n, uint32_t sent, bool last)
{
	struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(m, struct rte_tcp_hdr *, h->l4);
	uint32_t length = m->pkt_len - h->l3;

	if (h->ipv4) {
		struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, h->l3);

		ip->total_length = rte_cpu_to_be_16(length);
		ip->packet_id = rte_cpu_to_be_16(rte_be_to_cpu_16(ip->packet_id) + n);
	} else {
		struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv6_hdr *, h->l3);

		ip->payload_len = rte_cpu_to_be_16(length - sizeof(*ip));
	}
	tcp->sent_seq = rte_cpu_to_be_32(rte_be_to_cpu_32(tcp->sent_seq) + sent);
	if (!last)
		tcp->tcp_flags &= ~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG);
	if (n > 0)
		tcp->tcp_flags &= ~RTE_TCP_CWR_FLAG;
}

static uint64_t
payload_left(const struct entry *e)
{
	struct entry rest = *e;
	uint64_t n = rest.left;

	while (next_segment(&rest))
		n += rest.left;
	return n;
}

static void
send_segments(struct entry *e)
{
	uint16_t mss = read16(e->bytes + ETH_MSS);
	uint32_t header, n, sent = 0;
	struct rte_mbuf *first, *m;
	struct cx_headers h;
	uint64_t left;

	if (read32(e->bytes) >> WQE_CSEG_OPC_MOD_OFFSET != 0) {
		cx_refuse(ENOTSUP, "TSO: modifier %#x (legacy multi-packet send)",
			  read32(e->bytes) >> WQE_CSEG_OPC_MOD_OFFSET);
		e->syndrome = LOCAL_QP_ERROR;
		return;
	}
	if (has_software_parser(e))
		return;
	first = cx_buffer();
	if (first == NULL)
		return cx_stat(&e->sq->object.dev->vport[0], "no_buffer", 1);
	if (!take_inline(e, first))
		return rte_pktmbuf_free(first);
	header = first->pkt_len;
	/* Its headers do not say how long it is yet, so only where they are counts. */
	if (mss == 0 || header > MAX_TSO_HEADER || !cx_headers_parse(first, 0, true, &h) ||
	    h.l4 == 0 || h.proto != IPPROTO_TCP || h.l4 + sizeof(struct rte_tcp_hdr) > header) {
		cx_refuse(ENOTSUP, "TSO: headers that are not those of TCP, or of a tunnel");
		e->syndrome = LOCAL_QP_ERROR;
		return rte_pktmbuf_free(first);
	}
	left = payload_left(e);
	for (n = 0; left > 0; n++) {
		uint32_t size = RTE_MIN(left, mss);

		m = cx_buffer();
		if (m == NULL) {
			cx_stat(&e->sq->object.dev->vport[0], "no_buffer", 1);
			break;
		}
		memcpy(rte_pktmbuf_append(m, header), rte_pktmbuf_mtod(first, char *), header);
		if (!gather(e, m, size)) {
			drop_too_long(e, m);
			break;
		}
		if (e->syndrome != 0) {
			rte_pktmbuf_free(m);
			break;
		}
		left -= size;
		number_segment(m, &h, n, sent, left == 0);
		sent += size;
		e->bytes[ETH_CS_FLAGS] |= L3_CSUM | L4_CSUM;
		emit(e, m);
	}
	rte_pktmbuf_free(first);
}

/*
 * Reads an ASO object into the host's memory and writes it: flow-hit bits for ages. Other kinds of
 * objects (meters, connection tracking) are not carried out.
 */
static void
access_aso(struct entry *e)
{
	const struct mlx5_aso_wqe *wqe = (const void *)e->bytes;
	const struct mlx5_aso_cseg *aso = &wqe->aso_cseg;
	uint32_t kind = read32(e->bytes) >> WQE_CSEG_OPC_MOD_OFFSET;
	uint32_t operands = rte_be_to_cpu_32(aso->operand_masks);
	uint64_t address =
		(uint64_t)rte_be_to_cpu_32(aso->va_h) << 32 | (rte_be_to_cpu_32(aso->va_l_r) & ~1u);
	bool reads = rte_be_to_cpu_32(aso->va_l_r) & 1;
	void *to = NULL;

	if (kind != ASO_OPC_MOD_FLOW_HIT || e->size < sizeof(*wqe)) {
		cx_refuse(ENOTSUP, "ACCESS_ASO: modifier %#x (a meter, or connection tracking)",
			  kind);
		e->syndrome = LOCAL_QP_ERROR;
		return;
	}
	if (operands != (ASO_OPER_LOGICAL_OR << ASO_CSEG_COND_OPER_OFFSET |
			 ASO_OP_ALWAYS_TRUE << ASO_CSEG_COND_1_OPER_OFFSET |
			 ASO_OP_ALWAYS_TRUE << ASO_CSEG_COND_0_OPER_OFFSET |
			 BYTEWISE_64BYTE << ASO_CSEG_DATA_MASK_MODE_OFFSET)) {
		cx_refuse(ENOTSUP, "ACCESS_ASO: operands %#x", operands);
		e->syndrome = LOCAL_QP_ERROR;
		return;
	}
	if (reads) {
		to = cx_dma(rte_be_to_cpu_32(aso->lkey), address, MLX5_ASO_WQE_DSEG_SIZE);
		if (to == NULL) {
			e->syndrome = LOCAL_PROTECTION_ERROR;
			return;
		}
	}
	if (cx_aso_access(rte_be_to_cpu_32(wqe->general_cseg.misc), to, wqe->aso_dseg.data,
			  rte_be_to_cpu_64(aso->data_mask)) != 0)
		e->syndrome = LOCAL_QP_ERROR;
}

static void
carry_out(struct entry *e, uint32_t opcode)
{
	switch (opcode) {
	case MLX5_OPCODE_NOP:
		break;
	case MLX5_OPCODE_SEND:
		send_frame(e);
		break;
	case MLX5_OPCODE_ENHANCED_MPSW:
		send_frames(e);
		break;
	case MLX5_OPCODE_TSO:
		send_segments(e);
		break;
	case MLX5_OPCODE_ACCESS_ASO:
		access_aso(e);
		break;
	default:
		cx_refuse(ENOTSUP, "WQE of opcode %#x", opcode);
		e->syndrome = LOCAL_QP_ERROR;
	}
}

static void
complete(struct entry *e, struct cx_cq *cq, struct mlx5_cqe *cqe)
{
	struct sq *sq = e->sq;
	uint32_t mode = read32(e->bytes + 8) >> MLX5_COMP_MODE_OFFSET & 3;

	if (e->syndrome != 0) {
		struct mlx5_error_cqe *error = (struct mlx5_error_cqe *)cqe;

		error->syndrome = e->syndrome;
		error->s_wqe_opcode_qpn = rte_cpu_to_be_32(read32(e->bytes) << 24 | sq->object.id);
		error->wqe_counter = rte_cpu_to_be_16(sq->ci);
		atomic_store_explicit(&sq->state, MLX5_SQC_STATE_ERR, memory_order_release);
		cx_cq_complete(cq, cqe, MLX5_CQE_REQ_ERR);
	} else if (mode == MLX5_COMP_ALWAYS || mode == MLX5_COMP_CQE_AND_EQE) {
		cqe->sop_drop_qpn = rte_cpu_to_be_32(read32(e->bytes) << 24 | sq->object.id);
		cqe->wqe_counter = rte_cpu_to_be_16(sq->ci);
		cx_cq_complete(cq, cqe, MLX5_CQE_REQ);
	}
}

/* Copies the entry out of the ring. Its size is in units of segments. */
static void
fetch(struct entry *e)
{
	uint32_t ring = MLX5_WQE_SIZE << e->sq->log_size,
		 at = MLX5_WQE_SIZE * (uint32_t)e->sq->ci & (ring - 1), part;

	e->size = (read32(e->sq->wqes + at + 4) & 0x3f) * SEGMENT;
	part = RTE_MIN(e->size, ring - at);
	memcpy(e->bytes, e->sq->wqes + at, part);
	memcpy(e->bytes + part, e->sq->wqes, e->size - part);
}

void
cx_sq_poll(void *object)
{
	struct sq *sq = object;
	struct cx_cq *cq;
	uint32_t budget;

	if (atomic_load_explicit(&sq->state, memory_order_acquire) != MLX5_SQC_STATE_RDY ||
	    cx_hca_failed(sq->object.dev))
		return;
	cq = cx_object_get(CX_CQ, sq->cqn);
	if (cq == NULL)
		return;
	for (budget = BUDGET; budget > 0 && load_relaxed(&sq->state) == MLX5_SQC_STATE_RDY;
	     budget--) {
		struct entry e = { .sq = sq };
		struct mlx5_cqe *cqe;

		if ((uint16_t)rte_be_to_cpu_32(atomic_load_explicit(
			    &sq->doorbell[MLX5_SND_DBR], memory_order_acquire)) == sq->ci)
			return;
		cqe = cx_cq_next(cq);
		if (cqe == NULL ||
		    (sq->sends && rte_mempool_avail_count(cx_pool()) < ENTRY_BUFFERS))
			return;
		busy = true;
		fetch(&e);
		if (e.size < SEGMENT ||
		    (e.size < 2 * SEGMENT && (read32(e.bytes) & 0xff) != MLX5_OPCODE_NOP))
			e.syndrome = LOCAL_LENGTH_ERROR;
		else
			carry_out(&e, read32(e.bytes) & 0xff);
		complete(&e, cq, cqe);
		sq->ci += RTE_MAX(1u, cx_align(e.size, MLX5_WQE_SIZE) / MLX5_WQE_SIZE);
	}
}
