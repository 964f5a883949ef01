/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CX_DEVICE_H
#define CX_DEVICE_H

/* What the files of the device half share. */

#include <net/if.h>
#include <pthread.h>
#include <sys/uio.h>

#include "../../graph/nodes/atomic.h"
#include "card.h"

struct mlx5_cqe;

#define CX_PFS 2

/* Frames that are taken from, or given to, a far side at once. */
#define CX_BURST 32

/* In front of each frame in the card's buffers, for the headers that steering adds. */
#define CX_HEADROOM 256

/* ---- config.c: CONNECTX ---- */

struct cx_config {
	const struct cx_profile *profile;
	char far[CX_PFS][CX_MAX_VPORTS]
		[IFNAMSIZ]; /* by PF; the uplink first, then VF 0 and so on; "": there is none */
	char twin[8];       /* what the twins' names begin with */
	char faults[512];   /* KEY=VALUE,... */
};

extern struct cx_config cx_config;

void cx_config_parse(const char *text);
/* Ends the program, saying why. */
void cx_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- sysfs.c: what EAL and the driver take for sysfs ---- */

#define CX_PCI_DEVICE "0000:03:00.%u"

void cx_sysfs_create(void);
void cx_sysfs_remove(void);
/* What the driver takes for the sysfs folder of a PF's IB device. */
void cx_sysfs_ib_path(uint32_t pf, char *path, size_t size);

/* ---- hca.c: the PFs ---- */

struct cx_hca {
	struct ibv_device device;
	struct ibv_context context;
	struct cx_dev dev;
	atomic_bool fatal; /* the device has failed, as a test has asked */
};

extern struct cx_hca cx_hcas[CX_PFS];
extern uint32_t cx_pfs;

/* Makes twins and far sides, once; the card's ports are known from then on. 0 or an errno. */
int cx_hca_init(void);
void cx_hca_fail(struct cx_dev *dev);
bool cx_hca_failed(const struct cx_dev *dev);

/* ---- port.c: ports, their far sides and twins ---- */

struct cx_stat {
	const char *name;
	_Atomic uint64_t n;
};

#define CX_MAX_STATS 48

struct cx_port {
	struct cx_vport *vport;
	int far_fd;
	unsigned int far_ifindex;
	char far_name[IFNAMSIZ];
	atomic_bool far_carrier;
	int twin_fd;
	unsigned int twin_ifindex;
	uint8_t mac[6];          /* of both netdevs */
	_Atomic uint32_t mtu;    /* the twin's */
	atomic_bool far_stopped; /* these two are faults */
	atomic_bool link_down;
	_Atomic uint32_t stats;
	struct cx_stat stat[CX_MAX_STATS];
	uint32_t to_send; /* frames for the far side that wait for cx_ports_flush */
	struct rte_mbuf *send[CX_BURST];
};

struct cx_port *cx_port_of(const struct cx_vport *vport);
/* By the name that the configuration uses (pf0, vf3), or NULL. */
struct cx_port *cx_port_by_name(const char *name);
/* The n-th of all, or NULL. */
struct cx_port *cx_port_at(uint32_t n);

int cx_port_open(struct cx_vport *vport, const char *far);
/* Has the twin's carrier follow the far side's and the faults; the kernel notifies the driver. */
void cx_port_link(struct cx_port *port);
uint32_t cx_ports_max_mtu(void);

/* The card's thread: waits up to so many microseconds for frames; takes some, and says whether
 * there were any. */
void cx_ports_wait(uint32_t timeout_us);
bool cx_ports_take(void);
/* Sends what waits. */
void cx_ports_flush(void);
/* When there is no thread any more; at the end of the process. */
void cx_ports_stop(void);
void cx_ports_close(void);
/* Adds what the far side's socket has dropped to the port's counters. */
void cx_port_read_drops(struct cx_port *port);

/* ---- monitor.c: the kernel's news of netdevs ---- */

int cx_monitor_open(void);
int cx_monitor_fd(void);
/* Notes changes of carriers and MTUs. */
void cx_monitor_poll(void);

/* ---- objects.c: what DevX commands have made ---- */

enum cx_type {
	CX_UMEM = 1,
	CX_MKEY,
	CX_UAR,
	CX_PD,
	CX_TD,
	CX_CQ,
	CX_SQ,
	CX_RQ,
	CX_RQT,
	CX_TIR,
	CX_TIS,
	CX_COUNTERS,
	CX_Q_COUNTER,
	CX_FLOW_HIT_ASO,
	CX_METER_ASO,
	CX_CT_ASO,
	CX_GENEVE_OPT,
	CX_TYPES,
};

/* Every object begins so. Its number is in the commands' answers. */
struct cx_object {
	enum cx_type type;
	uint32_t id;
	struct cx_dev *dev;
};

/* What the driver holds: objects are replaced when they are modified, this stays. */
struct mlx5dv_devx_obj {
	enum cx_type type;
	uint32_t id;
	struct cx_dev *dev;
};

/* Gives the object a number, from when on the card's thread may find it. 0 or an errno; the table
 * owns it then. */
int cx_object_add(struct cx_dev *dev, enum cx_type type, void *object);
/* NULL if there is none. The card's thread may use it until its next round. */
void *cx_object_get(enum cx_type type, uint32_t id);
/* These two free what was there once the card's thread does not use it any more. */
void cx_object_replace(enum cx_type type, uint32_t id, void *object);
void cx_object_remove(enum cx_type type, uint32_t id);
/* Calls fn for each object of a type, on the card's thread. */
void cx_object_each(enum cx_type type, void (*fn)(void *object));
uint32_t cx_object_count(enum cx_type type);
const char *cx_type_name(enum cx_type type);

/* ---- thread.c ---- */

int cx_thread_start(void);
void cx_thread_stop(void);
/* Returns once the card's thread has left the round that it is in. */
void cx_thread_wait(void);
/* A buffer of the card's, empty; NULL when there is none left. */
struct rte_mbuf *cx_buffer(void);

/* ---- memory.c: what the card may read and write ---- */

struct cx_umem {
	struct cx_object object;
	struct mlx5dv_devx_umem dv;
	uint8_t *address;
	size_t size;
};

struct cx_mkey {
	struct cx_object object;
	uint64_t start;
	uint64_t size;
};

/* The memory of a queue or a doorbell: NULL if it does not lie within the umem. */
void *cx_umem_at(uint32_t umem_id, uint64_t offset, uint64_t size);
/* The memory at an address under an lkey (in the host's byte order), or NULL: refused. */
void *cx_dma(uint32_t lkey, uint64_t address, uint64_t size);
uint32_t cx_lkey(const struct cx_mkey *mkey);
/* Fills the table's entries of memory: devx_umem_*, devx_*_uar, reg_mr*, dereg_mr, *_pd. */
void cx_memory_glue(struct mlx5_glue *glue);

/* ---- devx.c, caps.c: the commands ---- */

void cx_devx_glue(struct mlx5_glue *glue);
void cx_caps_query(const struct cx_dev *dev, uint32_t what, void *out);

/* ---- cq.c ---- */

struct cx_channel;

struct cx_cq {
	struct cx_object object;
	uint8_t *cqes;
	const _Atomic uint32_t *doorbell;
	uint32_t log_size;
	uint32_t pi;
	bool overrun_ignore;
	struct cx_channel *_Atomic channel; /* that gets an event for completions, or NULL */
	uint64_t cookie;
	uint32_t notified_at; /* the arm doorbell that an event was sent for */
};

int cx_cq_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id);
/* The next entry, zeroed; NULL when the queue is full. cx_cq_complete hands it over. */
struct mlx5_cqe *cx_cq_next(struct cx_cq *cq);
void cx_cq_complete(struct cx_cq *cq, struct mlx5_cqe *cqe, uint8_t opcode);
void cx_cq_poll(void *cq);

/* ---- sq.c ---- */

int cx_sq_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id);
int cx_sq_modify(uint32_t id, const void *in);
void cx_sq_poll(void *sq);
/* Whether there was something to do in this round. */
bool cx_sq_busy(void);

/* ---- rq.c: receive queues, and what chooses them ---- */

int cx_rq_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id);
int cx_rq_modify(uint32_t id, const void *in);
int cx_rqt_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id);
int cx_rqt_modify(uint32_t id, const void *in);
int cx_tir_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id);
int cx_tir_modify(uint32_t id, const void *in);
uint32_t cx_q_counter_read(uint32_t id, bool clear);

/* ---- counter.c: flow counters and flow-hit ASO objects ---- */

int cx_counters_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id);
int cx_counters_query(const void *in, void *out, size_t size);
int cx_aso_create(struct cx_dev *dev, const void *in, void *out, uint32_t *id);
/* Reads 512 bits of an object into to, and overwrites those under the mask with what data has. */
int cx_aso_access(uint32_t id, void *to, const void *data, uint64_t mask);

/* ---- event.c: event channels, asynchronous commands and device events ---- */

void cx_event_glue(struct mlx5_glue *glue);
void cx_channel_tell(struct cx_channel *channel, uint64_t cookie);
int cx_event_init(struct cx_hca *hca);
void cx_event_fatal(struct cx_hca *hca);

/* ---- checksum.c ---- */

/* Where a frame's headers are, 0 where there is none. */
struct cx_headers {
	uint32_t l3;
	uint32_t l4;
	uint32_t end; /* of the L3 packet, padding of Ethernet excluded */
	bool ipv4;
	bool ipv6;
	bool fragment;
	uint8_t proto; /* of l4 */
	bool options;  /* of IPv4, or extension headers */
};

/* From an offset on, where an Ethernet header begins, or with ethernet false an IP header. */
bool cx_headers_parse(const struct rte_mbuf *m, uint32_t at, bool ethernet, struct cx_headers *h);
void cx_checksum_set_l3(struct rte_mbuf *m, const struct cx_headers *h);
void cx_checksum_set_l4(struct rte_mbuf *m, const struct cx_headers *h);
bool cx_checksum_l3_good(const struct rte_mbuf *m, const struct cx_headers *h);
bool cx_checksum_l4_good(const struct rte_mbuf *m, const struct cx_headers *h);
/* Completes a partial checksum: of all from start on, to be put at that offset behind it. */
void cx_checksum_complete(struct rte_mbuf *m, uint32_t start, uint32_t offset);
/* Where the headers within a tunnel begin (VXLAN, IP-in-IP), or false. */
bool cx_headers_inner(const struct rte_mbuf *m, const struct cx_headers *outer,
		      struct cx_headers *inner);

/* Inserts a VLAN tag; 0 or an errno. */
int cx_vlan_insert(struct rte_mbuf *m, uint16_t type, uint16_t tci);

/* ---- fault.c, telemetry.c ---- */

int cx_fault_set(const char *pairs, char *message, size_t size);
void cx_fault_clear(void);
/* What was refused, in the order of its first time; NULL behind the last. */
const char *cx_refusal(uint32_t at);

static inline uint64_t
cx_align(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

#endif
