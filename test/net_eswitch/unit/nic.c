/* SPDX-License-Identifier: Apache-2.0 */

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>

#include "nic.h"

#define NIC "net_eswitch_unit"
#define WAIT_US 2000000

struct nic nic;
bool nic_telemetry;
const char *nic_devargs;

const struct rte_flow_attr ingress = { .ingress = 1 };
const struct rte_flow_attr transfer = { .transfer = 1 };

#define ETH_BYTES(type_hi, type_lo) 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, type_hi, type_lo
#define IPV6_BYTES(proto)                                                                        \
	0x60, 0, 0, 0, 0, 0, proto, 64, 0xfc, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xfc, \
		0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2

const uint8_t udp_header[62] = {
	ETH_BYTES(0x86, 0xdd), IPV6_BYTES(17), 0x0b, 0xb8, 0x0b, 0xc2, 0, 0, 0, 0
};
const uint8_t ip_header[54] = { ETH_BYTES(0x86, 0xdd), IPV6_BYTES(4) };
const uint8_t eth_header[14] = { ETH_BYTES(0x08, 0x00) };

static const char *const port_names[NIC_PORTS] = {
	NIC,
	NIC "_pf1",
	NIC "_representor_vf0",
	NIC "_representor_vf3",
};

static int
start_eal(void)
{
	char prefix[32];
	char *args[] = { "unit",        "--no-huge",      "-m",  "128", "--no-pci",
			 "--no-shconf", "--no-telemetry", "-l",  "0",   "--log-level",
			 "lib.eal:4",   "--file-prefix",  prefix };

	snprintf(prefix, sizeof(prefix), "eswunit%d", getpid());
	if (nic_telemetry)
		args[6] = "--telemetry";
	return rte_eal_init(RTE_DIM(args), args);
}

/* EAL leaves its (empty) runtime directory behind. */
static int
stop_eal(void)
{
	char *dir = strdup(rte_eal_get_runtime_dir());
	char socket[PATH_MAX];
	int ret = rte_eal_cleanup();

	/* That of telemetry would go only when the process does. */
	if (dir != NULL && nic_telemetry) {
		snprintf(socket, sizeof(socket), "%s/dpdk_telemetry.v2", dir);
		unlink(socket);
	}
	if (dir == NULL || rmdir(dir) < 0)
		ret = -1;
	free(dir);
	return ret;
}

static int
make_far(int i)
{
	char name[32];
	int port;

	snprintf(name, sizeof(name), "in%d", i);
	nic.in[i] = rte_ring_create(name, 256, SOCKET_ID_ANY, 0);
	snprintf(name, sizeof(name), "out%d", i);
	nic.out[i] = rte_ring_create(name, 256, SOCKET_ID_ANY, 0);
	if (nic.in[i] == NULL || nic.out[i] == NULL)
		return -1;
	snprintf(name, sizeof(name), "far%d", i);
	port = rte_eth_from_rings(name, &nic.in[i], 1, &nic.out[i], 1, 0);
	nic.far[i] = port;
	return port;
}

static int
start_port(uint16_t port)
{
	struct rte_eth_conf conf = { 0 };

	if (rte_eth_dev_configure(port, 2, 1, &conf) < 0 ||
	    rte_eth_rx_queue_setup(port, 0, 64, 0, NULL, nic.pool) < 0 ||
	    rte_eth_rx_queue_setup(port, 1, 64, 0, NULL, nic.pool) < 0 ||
	    rte_eth_tx_queue_setup(port, 0, 64, 0, NULL) < 0)
		return -1;
	return rte_eth_dev_start(port);
}

int
nic_setup(void **state)
{
	char devargs[256];
	int i;

	(void)state;
	if (start_eal() < 0)
		return -1;
	nic.pool = rte_pktmbuf_pool_create("unit", 1023, 0, 0, 4096 + RTE_PKTMBUF_HEADROOM,
					   SOCKET_ID_ANY);
	if (nic.pool == NULL)
		return -1;
	for (i = 0; i < NIC_PORTS; i++)
		if (make_far(i) < 0)
			return -1;
	snprintf(devargs, sizeof(devargs),
		 "pf0=net_ring_far0,pf1=net_ring_far1,vf0=net_ring_far2,vf3=net_ring_far3%s%s",
		 nic_devargs == NULL ? "" : ",", nic_devargs == NULL ? "" : nic_devargs);
	if (rte_vdev_init(NIC, devargs) < 0)
		return -1;
	for (i = 0; i < NIC_PORTS; i++) {
		if (rte_eth_dev_get_port_by_name(port_names[i], &nic.port[i]) < 0 ||
		    start_port(nic.port[i]) < 0)
			return -1;
		nic.esw[i] = rte_eth_devices[nic.port[i]].data->dev_private;
	}
	return 0;
}

int
nic_teardown(void **state)
{
	int i;

	(void)state;
	if (rte_vdev_uninit(NIC) < 0)
		return -1;
	for (i = 0; i < NIC_PORTS; i++) {
		if (rte_eth_dev_close(nic.far[i]) < 0)
			return -1;
		rte_ring_free(nic.in[i]);
		rte_ring_free(nic.out[i]);
	}
	rte_mempool_free(nic.pool);
	return stop_eal();
}

static struct frame
take(struct rte_mbuf *m)
{
	struct frame f = { 0 };

	if (m == NULL)
		return f;
	assert_int_equal(rte_pktmbuf_is_contiguous(m), 1);
	frame_bytes(&f, rte_pktmbuf_mtod(m, void *), rte_pktmbuf_data_len(m));
	rte_pktmbuf_free(m);
	return f;
}

struct frame
nic_left(int port)
{
	void *m = NULL;

	if (rte_ring_dequeue(nic.out[port], &m) < 0)
		m = NULL;
	return take(m);
}

struct frame
nic_received(int port)
{
	struct rte_mbuf *m = NULL;
	uint16_t queue;

	for (queue = 0; queue < 2; queue++) {
		if (rte_eth_rx_burst(nic.port[port], queue, &m, 1) == 1) {
			assert_int_equal(m->port, nic.port[port]);
			return take(m);
		}
	}
	return take(NULL);
}

int
nic_clean(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < NIC_PORTS; i++) {
		if (rte_flow_flush(nic.port[i], NULL) < 0)
			return -1;
		while (nic_left(i).len > 0)
			;
		while (nic_received(i).len > 0)
			;
		if (rte_eth_xstats_reset(nic.port[i]) < 0)
			return -1;
	}
	return 0;
}

static struct rte_mbuf *
mbuf_of(const struct frame *f)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(nic.pool);
	void *data;

	assert_non_null(m);
	data = rte_pktmbuf_append(m, f->len);
	assert_non_null(data);
	memcpy(data, f->data, f->len);
	return m;
}

static void
wait_for_all(int port)
{
	int waited;

	for (waited = 0; !rte_ring_empty(nic.in[port]) && waited < WAIT_US; waited += 50)
		usleep(50);
	assert_true(rte_ring_empty(nic.in[port]));
	esw_pipeline_wait(nic.esw[port]->nic);
}

void
nic_arrive_mbuf(int port, struct rte_mbuf *m)
{
	assert_int_equal(rte_ring_enqueue(nic.in[port], m), 0);
	wait_for_all(port);
}

void
nic_arrive(int port, const struct frame *f)
{
	nic_arrive_mbuf(port, mbuf_of(f));
}

void
nic_arrive_together(int port, const struct frame *f, uint32_t n)
{
	struct rte_mbuf *burst[ESW_BURST];
	uint32_t i;

	for (i = 0; i < n; i++)
		burst[i] = mbuf_of(&f[i]);
	assert_int_equal(rte_ring_enqueue_bulk(nic.in[port], (void **)burst, n, NULL), n);
	wait_for_all(port);
}

static void
assert_frame(const struct frame *got, const struct frame *want)
{
	assert_int_equal(got->len, want->len);
	assert_memory_equal(got->data, want->data, want->len);
}

void
nic_assert_left(int port, const struct frame *f)
{
	struct frame got = nic_left(port);

	assert_frame(&got, f);
}

void
nic_assert_received(int port, const struct frame *f)
{
	struct frame got = nic_received(port);

	assert_frame(&got, f);
}

/* Nothing more has come out anywhere. */
void
nic_assert_quiet(void)
{
	int i;

	for (i = 0; i < NIC_PORTS; i++) {
		assert_int_equal(nic_left(i).len, 0);
		assert_int_equal(nic_received(i).len, 0);
	}
}

void
nic_send(int port, const struct frame *f)
{
	struct rte_mbuf *m = mbuf_of(f);

	assert_int_equal(rte_eth_tx_burst(nic.port[port], 0, &m, 1), 1);
}

uint64_t
nic_stat(int port, const char *name)
{
	uint64_t id, value;

	assert_int_equal(rte_eth_xstats_get_id_by_name(nic.port[port], name, &id), 0);
	assert_int_equal(rte_eth_xstats_get_by_id(nic.port[port], &id, &value, 1), 1);
	return value;
}

struct rte_flow_attr
transfer_group(uint32_t group)
{
	return (struct rte_flow_attr){ .transfer = 1, .group = group };
}

struct rte_flow *
nic_rule(int port, struct rte_flow_attr attr, const struct rte_flow_item *items,
	 const struct rte_flow_action *actions)
{
	struct rte_flow_error error = { 0 };
	struct rte_flow *flow = rte_flow_create(nic.port[port], &attr, items, actions, &error);

	if (flow == NULL)
		fail_msg("rule refused: %s", error.message);
	return flow;
}

void
nic_destroy(int port, struct rte_flow *flow)
{
	assert_int_equal(rte_flow_destroy(nic.port[port], flow, NULL), 0);
}

static char answer[20000];

static void
read_answer(int fd)
{
	ssize_t n = recv(fd, answer, sizeof(answer) - 1, 0);

	assert_true(n > 0);
	answer[n] = '\0';
}

const char *
nic_ask(const char *command)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/dpdk_telemetry.v2",
		 rte_eal_get_runtime_dir());
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	read_answer(fd);
	assert_int_equal(send(fd, command, strlen(command), 0), strlen(command));
	read_answer(fd);
	close(fd);
	return answer;
}
