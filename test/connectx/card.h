/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CX_CARD_H
#define CX_CARD_H

/*
 * The virtual ConnectX: what its two halves know of each other. The device half (probing, DevX
 * objects, queues, far sides, kernel twins) owns the ports and moves frames; the steering half
 * (tables, matchers, rules, actions) says where each frame goes.
 *
 * Threads: one thread a process, the card's, moves all frames. Everything that the driver asks for
 * comes on the application's threads, at any time; the card's thread never waits for those. Rules
 * are read under RCU, as in net_eswitch.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_mbuf.h>

#include <infiniband/mlx5dv.h>
#include <infiniband/verbs.h>

#define CX_MAX_VFS 15
#define CX_MAX_VPORTS (1 + CX_MAX_VFS)

/* Vport numbers of the E-Switch (mlx5 programmer's manual): the manager is PF0's function itself,
 * whose queues send. */
#define CX_VPORT_MANAGER 0
#define CX_VPORT_UPLINK 0xffff

/* What differs between cards. */
struct cx_profile {
	const char *name; /* cx5, cx6dx, cx7 */
	uint16_t pci_device;
	uint8_t steering_format; /* steering_format_version: 0 CX-5, 1 CX-6 Dx, 2 CX-7 */
	bool reg_c_preserve;
	bool flow_hit_aso;
	bool meter_aso;
	bool ct_aso;
};

struct cx_dev;

/* A port of the card: an uplink or a VF. What is here is set before the driver sees the card, but
 * for the counters. */
struct cx_vport {
	struct cx_dev *dev;
	uint16_t id;       /* CX_VPORT_UPLINK, or 1 for VF 0 and so on */
	uint32_t ib_port;  /* the driver's number of it, from 1 */
	char name[8];      /* pf0, pf1, vf0, ... */
	uint32_t meta_tag; /* reg_c_0 of what comes from it, where the driver's rules look for it */
};

#define CX_META_MASK 0xffff0000u

/* A PF of the card, which is an IB device of its own. */
struct cx_dev {
	uint8_t pf; /* 0: with an E-Switch; 1: legacy, NIC domains only */
	const struct cx_profile *profile;
	struct ibv_context *context;
	uint32_t vports;
	struct cx_vport vport[CX_MAX_VPORTS]; /* the uplink first */
};

/* By ib port, or NULL. */
struct cx_vport *cx_vport_by_ib_port(struct cx_dev *dev, uint32_t ib_port);
/* By vport number, or NULL. */
struct cx_vport *cx_vport_by_id(struct cx_dev *dev, uint16_t id);
struct cx_dev *cx_dev_of(const struct ibv_context *context);

/* The card's packet buffers, of one segment each. NULL before the driver has opened a device. */
struct rte_mempool *cx_pool(void);

/* ---- the device half, called by steering on the card's thread; the frame is the callee's from
 * then on ---- */

/* Out at the far side: the wire, or the guest. Frames above the port's MTU are dropped and
 * counted. */
void cx_far_send(struct cx_vport *vport, struct rte_mbuf *m);
/* To the kernel, at the port's twin. */
void cx_twin_receive(struct cx_vport *vport, struct rte_mbuf *m);

/* What the card reports of a frame that it puts into a receive queue, beside its length and
 * checksums, which the device half finds out by itself. */
struct cx_rx_meta {
	bool marked;
	uint32_t mark;  /* flow tag */
	uint32_t reg_b; /* metadata of the driver's */
};

/* Into one of a TIR's queues, which RSS chooses. */
void cx_tir_receive(uint32_t tirn, struct rte_mbuf *m, const struct cx_rx_meta *meta);

/* One more packet for a DevX counter, which the driver reads by commands. */
void cx_counter_hit(uint32_t counter_id, uint32_t bytes);
/* A flow-hit ASO object's bit, which the driver reads and clears through its ASO queue. */
void cx_aso_flow_hit(uint32_t aso_object, uint32_t offset);
/* The ids behind the driver's handles of DevX objects. */
uint32_t cx_devx_id(const void *devx_obj);

/* Whether the next command of this kind has to fail, as a test has asked: 0, or an errno. Names the
 * object: "rule", "table", "matcher", "action". */
int cx_fault_create(const char *what);
int cx_fault_destroy(const char *what);

/* What no driver has asked for so far: said once on stderr by name, with what it was, and in the
 * telemetry. Returns errno = code. */
int cx_refuse(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Counters of a port, for tests: shown by telemetry, by name. Names are literals. */
void cx_stat(struct cx_vport *vport, const char *name, uint64_t n);

/* ---- the steering half, called by the device half ---- */

/* Fills the table's entries of software steering: dr_*, dv_*flow*, destroy_flow_action. */
struct mlx5_glue;
void cx_steering_glue(struct mlx5_glue *glue);

int cx_steering_start(void);   /* once, before the card's thread runs: 0 or -errno */
void cx_steering_online(void); /* by the card's thread: RCU */
void cx_steering_quiescent(void);
void cx_steering_offline(void);

/* A frame from the far side of a port, on the card's thread. */
void cx_steer_from_far(struct cx_vport *vport, struct rte_mbuf *m);
/* A frame that the application has posted on a send queue. The VLAN and checksums that the WQE asks
 * for are in it. */
void cx_steer_from_sq(struct cx_dev *dev, uint32_t sqn, struct cx_vport *vport, struct rte_mbuf *m);
/* A frame that the kernel sends at the twin: it leaves by the port's far side. */
void cx_steer_from_twin(struct cx_vport *vport, struct rte_mbuf *m);

/* The installed rules, one a line, without addresses of memory: for tests that compare. */
void cx_steering_dump(FILE *file);
/* How many rules, tables and matchers there are: for tests of leaks. */
struct cx_steering_counts {
	uint32_t tables, matchers, rules, actions;
};
struct cx_steering_counts cx_steering_counts(void);

#endif
