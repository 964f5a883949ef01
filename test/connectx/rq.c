/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Receiving: a TIR chooses a receive queue from its table (RQT) by the hash of the frame; the frame
 * is written to the memory of the queue's next entry, and what is known of it to the completion
 * queue.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_thash.h>
#include <rte_udp.h>

#include "mlx5_glue.h"
#include "mlx5_prm.h"
#include "mlx5_common.h"

#include "device.h"

#define RSS_KEY_SIZE 40
#define MAX_RQT 2048

/* The L3 and L4 type in a completion, as mlx5_ptype_table of the driver reads them. */
#define L4_TYPE_SHIFT 4
#define L4_TYPE_TCP 1
#define L4_TYPE_UDP 2
#define L4_TYPE_TCP_EMPTY_ACK 3
#define L4_TYPE_TCP_ACK 4

/* rx_hash_type: what the hash is of. */
#define HASH_IPV4 (1u << 2)
#define HASH_IPV6 (2u << 2)
#define HASH_TCP (1u << 6)
#define HASH_UDP (2u << 6)

#define FIELD(name) (1u << MLX5_RX_HASH_FIELD_SELECT_SELECTED_FIELDS_##name)

struct rq {
	struct cx_object object;
	uint8_t *wqes;
	const _Atomic uint32_t *doorbell;
	uint32_t log_size;
	uint32_t log_stride;
	uint32_t cqn;
	uint32_t q_counter;
	_Atomic uint32_t state;
	uint32_t user_index;
	atomic_bool keep_vlan;
	uint16_t ci;
};

struct rqt {
	struct cx_object object;
	uint32_t size;
	uint32_t rq[];
};

struct tir {
	struct cx_object object;
	bool direct;
	uint32_t rqn; /* if direct */
	uint32_t rqtn;
	bool hashes;
	uint32_t fields;
	bool inner; /* the fields are those within a tunnel */
	uint8_t key[RSS_KEY_SIZE] __attribute__((aligned(4))); /* as rte_softrss reads it */
};

static _Atomic uint32_t q_counters[256];

/* ---- commands ---- */

int
cx_rq_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	const void *context = MLX5_ADDR_OF(create_rq_in, in, ctx);
	const void *wq = MLX5_ADDR_OF(rqc, context, wq);
	uint32_t log_size = MLX5_GET(wq, wq, log_wq_sz),
		 log_stride = MLX5_GET(wq, wq, log_wq_stride);
	struct rq *rq;
	int ret;

	if (MLX5_GET(rqc, context, hairpin) || MLX5_GET(rqc, context, delay_drop_en) ||
	    MLX5_GET(rqc, context, scatter_fcs) ||
	    MLX5_GET(rqc, context, mem_rq_type) != MLX5_RQC_MEM_RQ_TYPE_MEMORY_RQ_INLINE)
		return cx_refuse(
			ENOTSUP,
			"CREATE_RQ: hairpin, delay_drop_en, scatter_fcs or mem_rq_type RMP");
	if (MLX5_GET(wq, wq, wq_type) != MLX5_WQ_TYPE_CYCLIC)
		return cx_refuse(ENOTSUP, "CREATE_RQ: wq_type %u (striding)",
				 MLX5_GET(wq, wq, wq_type));
	if (!MLX5_GET(wq, wq, wq_umem_valid) || !MLX5_GET(wq, wq, dbr_umem_valid))
		return cx_refuse(ENOTSUP, "CREATE_RQ: memory that is no umem");
	rq = calloc(1, sizeof(*rq));
	if (rq == NULL)
		return ENOMEM;
	rq->log_size = log_size;
	rq->log_stride = log_stride;
	rq->cqn = MLX5_GET(rqc, context, cqn);
	rq->q_counter = MLX5_GET(rqc, context, counter_set_id);
	store_relaxed(&rq->state, MLX5_GET(rqc, context, state));
	rq->user_index = MLX5_GET(rqc, context, user_index);
	store_relaxed(&rq->keep_vlan, MLX5_GET(rqc, context, vsd));
	rq->wqes = cx_umem_at(MLX5_GET(wq, wq, wq_umem_id), MLX5_GET64(wq, wq, wq_umem_offset),
			      (uint64_t)1 << (log_size + log_stride));
	rq->doorbell = cx_umem_at(MLX5_GET(wq, wq, dbr_umem_id), MLX5_GET64(wq, wq, dbr_addr),
				  2 * sizeof(uint32_t));
	if (rq->wqes == NULL || rq->doorbell == NULL)
		ret = cx_refuse(EFAULT, "CREATE_RQ: entries or doorbell outside of their umem");
	else if (cx_object_get(CX_CQ, rq->cqn) == NULL)
		ret = cx_refuse(EINVAL, "CREATE_RQ: there is no completion queue %#x", rq->cqn);
	else
		ret = cx_object_add(dev, CX_RQ, rq);
	if (ret != 0) {
		free(rq);
		return ret;
	}
	*id = rq->object.id;
	MLX5_SET(create_rq_out, out, rqn, rq->object.id);
	return 0;
}

int
cx_rq_modify(uint32_t id, const void *in)
{
	const void *context = MLX5_ADDR_OF(modify_rq_in, in, ctx);
	struct rq *rq = cx_object_get(CX_RQ, id);
	uint32_t from = MLX5_GET(modify_rq_in, in, rq_state), to = MLX5_GET(rqc, context, state);
	uint64_t what = MLX5_GET64(modify_rq_in, in, modify_bitmask);

	if (rq == NULL)
		return cx_refuse(EINVAL, "MODIFY_RQ: there is no receive queue %#x", id);
	if (from != load_relaxed(&rq->state))
		return cx_refuse(EINVAL, "MODIFY_RQ: from state %u, but the queue is in %u", from,
				 load_relaxed(&rq->state));
	if (what & ~(uint64_t)MLX5_MODIFY_RQ_IN_MODIFY_BITMASK_VSD)
		return cx_refuse(ENOTSUP, "MODIFY_RQ: modify_bitmask %#llx",
				 (unsigned long long)what);
	if (what & MLX5_MODIFY_RQ_IN_MODIFY_BITMASK_VSD)
		store_relaxed(&rq->keep_vlan, MLX5_GET(rqc, context, vsd));
	atomic_store_explicit(&rq->state, to, memory_order_release);
	if (to == MLX5_RQC_STATE_RST) {
		cx_thread_wait();
		rq->ci = 0;
	}
	return 0;
}

static struct rqt *
read_rqt(const void *context)
{
	uint32_t size = MLX5_GET(rqtc, context, rqt_actual_size), i;
	struct rqt *rqt;

	if (size == 0 || size > MAX_RQT) {
		errno = cx_refuse(EINVAL, "RQT of %u entries", size);
		return NULL;
	}
	if (MLX5_GET(rqtc, context, list_q_type) != MLX5_INLINE_Q_TYPE_RQ) {
		errno = cx_refuse(ENOTSUP, "RQT: list_q_type %u",
				  MLX5_GET(rqtc, context, list_q_type));
		return NULL;
	}
	rqt = calloc(1, sizeof(*rqt) + size * sizeof(rqt->rq[0]));
	if (rqt == NULL)
		return NULL;
	rqt->size = size;
	for (i = 0; i < size; i++)
		rqt->rq[i] = MLX5_GET(rqtc, context, rq_num[i]);
	return rqt;
}

int
cx_rqt_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	struct rqt *rqt = read_rqt(MLX5_ADDR_OF(create_rqt_in, in, rqt_context));
	int ret;

	if (rqt == NULL)
		return errno;
	ret = cx_object_add(dev, CX_RQT, rqt);
	if (ret != 0) {
		free(rqt);
		return ret;
	}
	*id = rqt->object.id;
	MLX5_SET(create_rqt_out, out, rqtn, rqt->object.id);
	return 0;
}

int
cx_rqt_modify(uint32_t id, const void *in)
{
	const struct rqt *old = cx_object_get(CX_RQT, id);
	struct rqt *rqt = read_rqt(MLX5_ADDR_OF(modify_rqt_in, in, rqt_context));

	if (rqt == NULL)
		return errno;
	if (old == NULL) {
		free(rqt);
		return cx_refuse(EINVAL, "MODIFY_RQT: there is no table %#x", id);
	}
	rqt->object = old->object;
	cx_object_replace(CX_RQT, id, rqt);
	return 0;
}

static void
read_hash(struct tir *tir, const void *context)
{
	const void *outer = MLX5_ADDR_OF(tirc, context, rx_hash_field_selector_outer);
	const void *inner = MLX5_ADDR_OF(tirc, context, rx_hash_field_selector_inner);

	tir->hashes = MLX5_GET(tirc, context, rx_hash_fn) == MLX5_RX_HASH_FN_TOEPLITZ;
	tir->fields = MLX5_GET(rx_hash_field_select, outer, selected_fields);
	tir->inner =
		tir->fields == 0 && MLX5_GET(rx_hash_field_select, inner, selected_fields) != 0;
	if (tir->inner)
		tir->fields = MLX5_GET(rx_hash_field_select, inner, selected_fields);
	memcpy(tir->key, MLX5_ADDR_OF(tirc, context, rx_hash_toeplitz_key), sizeof(tir->key));
}

static int
check_hash(const struct tir *tir, const void *context)
{
	if (MLX5_GET(tirc, context, rx_hash_fn) == MLX5_RX_HASH_FN_INVERTED_XOR8 ||
	    MLX5_GET(tirc, context, rx_hash_symmetric))
		return cx_refuse(ENOTSUP, "TIR: a hash that is XOR8 or symmetric");
	if (tir->fields & FIELD(IPSEC_SPI))
		return cx_refuse(ENOTSUP, "TIR: a hash of the IPsec SPI");
	return 0;
}

int
cx_tir_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id)
{
	const void *context = MLX5_ADDR_OF(create_tir_in, in, ctx);
	struct tir *tir;
	int ret;

	if (MLX5_GET(tirc, context, lro_enable_mask))
		return cx_refuse(ENOTSUP, "CREATE_TIR: LRO");
	tir = calloc(1, sizeof(*tir));
	if (tir == NULL)
		return ENOMEM;
	tir->direct = MLX5_GET(tirc, context, disp_type) == MLX5_TIRC_DISP_TYPE_DIRECT;
	tir->rqn = MLX5_GET(tirc, context, inline_rqn);
	tir->rqtn = MLX5_GET(tirc, context, indirect_table);
	read_hash(tir, context);
	ret = check_hash(tir, context);
	if (ret == 0 && !tir->direct && cx_object_get(CX_RQT, tir->rqtn) == NULL)
		ret = cx_refuse(EINVAL, "CREATE_TIR: there is no RQT %#x", tir->rqtn);
	if (ret == 0)
		ret = cx_object_add(dev, CX_TIR, tir);
	if (ret != 0) {
		free(tir);
		return ret;
	}
	*id = tir->object.id;
	MLX5_SET(create_tir_out, out, tirn, tir->object.id);
	return 0;
}

int
cx_tir_modify(uint32_t id, const void *in)
{
	const void *context = MLX5_ADDR_OF(modify_tir_in, in, ctx);
	const struct tir *old = cx_object_get(CX_TIR, id);
	uint64_t what = MLX5_GET64(modify_tir_in, in, modify_bitmask);
	struct tir *tir;
	int ret = 0;

	if (old == NULL)
		return cx_refuse(EINVAL, "MODIFY_TIR: there is no TIR %#x", id);
	if (what & ~(uint64_t)(MLX5_MODIFY_TIR_IN_MODIFY_BITMASK_INDIRECT_TABLE |
			       MLX5_MODIFY_TIR_IN_MODIFY_BITMASK_HASH |
			       MLX5_MODIFY_TIR_IN_MODIFY_BITMASK_SELF_LB_EN))
		return cx_refuse(ENOTSUP, "MODIFY_TIR: modify_bitmask %#llx",
				 (unsigned long long)what);
	tir = malloc(sizeof(*tir));
	if (tir == NULL)
		return ENOMEM;
	*tir = *old;
	if (what & MLX5_MODIFY_TIR_IN_MODIFY_BITMASK_INDIRECT_TABLE)
		tir->rqtn = MLX5_GET(tirc, context, indirect_table);
	if (what & MLX5_MODIFY_TIR_IN_MODIFY_BITMASK_HASH) {
		read_hash(tir, context);
		ret = check_hash(tir, context);
	}
	if (ret != 0) {
		free(tir);
		return ret;
	}
	cx_object_replace(CX_TIR, id, tir);
	return 0;
}

uint32_t
cx_q_counter_read(uint32_t id, bool clear)
{
	return clear ? atomic_exchange_explicit(&q_counters[id & 0xff], 0, memory_order_relaxed) :
		       load_relaxed(&q_counters[id & 0xff]);
}

/* ---- frames ---- */

static uint32_t *
add_words(uint32_t *to, const void *from, size_t size)
{
	size_t i;

	for (i = 0; i < size / sizeof(uint32_t); i++) {
		rte_be32_t word;

		memcpy(&word, (const uint8_t *)from + i * sizeof(word), sizeof(word));
		*to++ = rte_be_to_cpu_32(word);
	}
	return to;
}

/* The Toeplitz hash of the fields that the TIR selects and the frame has, in the order of the RSS
 * specification. */
static uint32_t
hash_of(const struct tir *tir, const struct rte_mbuf *m, const struct cx_headers *outer,
	uint8_t *type)
{
	struct cx_headers inner;
	const struct cx_headers *h =
		tir->inner && cx_headers_inner(m, outer, &inner) ? &inner : outer;
	uint32_t tuple[9], *to = tuple, ports = 0;
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, h->l3);
	uint32_t size = h->ipv4 ? 4 : 16;

	*type = 0;
	if (!tir->hashes || h->l3 == 0)
		return 0;
	ip += h->ipv4 ? offsetof(struct rte_ipv4_hdr, src_addr) :
			offsetof(struct rte_ipv6_hdr, src_addr);
	if (tir->fields & FIELD(SRC_IP))
		to = add_words(to, ip, size);
	if (tir->fields & FIELD(DST_IP))
		to = add_words(to, ip + size, size);
	if (to != tuple)
		*type |= h->ipv4 ? HASH_IPV4 : HASH_IPV6;
	if (tir->fields & (FIELD(L4_SPORT) | FIELD(L4_DPORT)) &&
	    (h->proto == IPPROTO_TCP || h->proto == IPPROTO_UDP) && h->l4 != 0 &&
	    h->l4 + sizeof(ports) <= h->end) {
		add_words(&ports, rte_pktmbuf_mtod_offset(m, const void *, h->l4), sizeof(ports));
		if (!(tir->fields & FIELD(L4_SPORT)))
			ports <<= 16;
		else if (!(tir->fields & FIELD(L4_DPORT)))
			ports &= 0xffff0000;
		*to++ = ports;
		*type |= h->proto == IPPROTO_TCP ? HASH_TCP : HASH_UDP;
	}
	return to == tuple ? 0 : rte_softrss(tuple, to - tuple, tir->key);
}

static struct rq *
choose(const struct tir *tir, uint32_t hash)
{
	const struct rqt *rqt;

	if (tir->direct)
		return cx_object_get(CX_RQ, tir->rqn);
	rqt = cx_object_get(CX_RQT, tir->rqtn);
	return rqt == NULL ? NULL : cx_object_get(CX_RQ, rqt->rq[hash % rqt->size]);
}

/* Takes a C-VLAN tag off. */
static bool
strip_vlan(struct rte_mbuf *m, uint16_t *tci)
{
	uint8_t *head = rte_pktmbuf_mtod(m, uint8_t *);
	rte_be16_t type[2];

	if (m->pkt_len < RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN)
		return false;
	memcpy(type, head + 2 * RTE_ETHER_ADDR_LEN, sizeof(type));
	if (type[0] != RTE_BE16(RTE_ETHER_TYPE_VLAN))
		return false;
	*tci = rte_be_to_cpu_16(type[1]);
	memmove(head + RTE_VLAN_HLEN, head, 2 * RTE_ETHER_ADDR_LEN);
	return rte_pktmbuf_adj(m, RTE_VLAN_HLEN) != NULL;
}

static uint8_t
l4_type(const struct rte_mbuf *m, const struct cx_headers *h)
{
	const struct rte_tcp_hdr *tcp;

	if (h->l4 == 0)
		return 0;
	if (h->proto == IPPROTO_UDP)
		return L4_TYPE_UDP;
	if (h->proto != IPPROTO_TCP || h->l4 + sizeof(*tcp) > h->end)
		return 0;
	tcp = rte_pktmbuf_mtod_offset(m, const struct rte_tcp_hdr *, h->l4);
	if (!(tcp->tcp_flags & RTE_TCP_ACK_FLAG))
		return L4_TYPE_TCP;
	return h->l4 + (tcp->data_off >> 4) * 4u == h->end ? L4_TYPE_TCP_EMPTY_ACK :
							     L4_TYPE_TCP_ACK;
}

static uint16_t
header_types(const struct rte_mbuf *m, const struct cx_headers *h)
{
	uint16_t types = MLX5_CQE_RX_L2_HDR_VALID;

	if (h->ipv4)
		types |= MLX5_CQE_RX_IPV4_PACKET;
	if (h->ipv6)
		types |= MLX5_CQE_RX_IPV6_PACKET;
	if (h->options)
		types |= MLX5_CQE_RX_IP_EXT_OPTS_PACKET << 8;
	if (h->fragment)
		types |= MLX5_CQE_RX_IP_FRAG_PACKET;
	if (h->l3 != 0 && cx_checksum_l3_good(m, h))
		types |= MLX5_CQE_RX_L3_HDR_VALID;
	types |= l4_type(m, h) << L4_TYPE_SHIFT;
	if (cx_checksum_l4_good(m, h))
		types |= MLX5_CQE_RX_L4_HDR_VALID;
	return types;
}

/* Writes the frame to the memory of an entry; false when that does not hold it. */
static bool
scatter(const struct rq *rq, const struct rte_mbuf *m)
{
	const uint8_t *entry =
		rq->wqes + ((size_t)(rq->ci & ((1u << rq->log_size) - 1)) << rq->log_stride);
	const struct mlx5_wqe_data_seg *segment = (const void *)entry;
	uint32_t segments = (1u << rq->log_stride) / sizeof(*segment), done = 0, i;

	for (i = 0; i < segments && done < m->pkt_len; i++) {
		uint32_t n = RTE_MIN(rte_be_to_cpu_32(segment[i].byte_count), m->pkt_len - done);
		void *to = cx_dma(rte_be_to_cpu_32(segment[i].lkey),
				  rte_be_to_cpu_64(segment[i].addr), n);

		if (to == NULL)
			return false;
		memcpy(to, rte_pktmbuf_mtod_offset(m, const void *, done), n);
		done += n;
	}
	return done == m->pkt_len;
}

static void
out_of_buffer(const struct rq *rq)
{
	atomic_fetch_add_explicit(&q_counters[rq->q_counter & 0xff], 1, memory_order_relaxed);
	cx_stat(&rq->object.dev->vport[0], "rq_out_of_buffer", 1);
}

static void
receive(const struct tir *tir, struct rte_mbuf *m, const struct cx_rx_meta *meta)
{
	struct cx_vport *vport = &tir->object.dev->vport[0];
	struct cx_headers h;
	struct mlx5_cqe *cqe;
	uint16_t tci = 0;
	uint8_t hash_type;
	uint32_t hash;
	struct cx_cq *cq;
	struct rq *rq;
	bool stripped;

	cx_headers_parse(m, 0, true, &h);
	hash = hash_of(tir, m, &h, &hash_type);
	rq = choose(tir, hash);
	cq = rq == NULL ? NULL : cx_object_get(CX_CQ, rq->cqn);
	if (cq == NULL ||
	    atomic_load_explicit(&rq->state, memory_order_acquire) != MLX5_RQC_STATE_RDY)
		return cx_stat(vport, "rq_not_ready", 1);
	if (rq->ci == (uint16_t)rte_be_to_cpu_32(atomic_load_explicit(&rq->doorbell[MLX5_RCV_DBR],
								      memory_order_acquire)))
		return out_of_buffer(rq);
	stripped = !load_relaxed(&rq->keep_vlan) && strip_vlan(m, &tci);
	if (stripped)
		cx_headers_parse(m, 0, true, &h);
	cqe = cx_cq_next(cq);
	if (cqe == NULL)
		return out_of_buffer(rq);
	if (!scatter(rq, m))
		return cx_stat(vport, "rq_too_long", 1);
	cqe->hdr_type_etc =
		rte_cpu_to_be_16(header_types(m, &h) | (stripped ? MLX5_CQE_VLAN_STRIPPED : 0));
	cqe->vlan_info = rte_cpu_to_be_16(tci);
	cqe->rx_hash_res = rte_cpu_to_be_32(hash);
	cqe->rx_hash_type = hash_type;
	cqe->byte_cnt = rte_cpu_to_be_32(m->pkt_len);
	cqe->user_index_low = rte_cpu_to_be_16(rq->user_index);
	cqe->flow_table_metadata = rte_cpu_to_be_32(meta->reg_b);
	cqe->sop_drop_qpn = rte_cpu_to_be_32(meta->marked ? meta->mark & 0xffffff : 0);
	cqe->wqe_counter = rte_cpu_to_be_16(rq->ci);
	cqe->lro_num_seg = 1;
	cx_stat(vport, "rq_packets", 1);
	rq->ci++;
	cx_cq_complete(cq, cqe, MLX5_CQE_RESP_SEND);
}

void
cx_tir_receive(uint32_t tirn, struct rte_mbuf *m, const struct cx_rx_meta *meta)
{
	const struct tir *tir = cx_object_get(CX_TIR, tirn);

	if (tir != NULL)
		receive(tir, m, meta);
	rte_pktmbuf_free(m);
}
