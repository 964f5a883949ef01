/* SPDX-License-Identifier: Apache-2.0 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_ethdev.h>

#include "harness.h"

#define NIC "net_eswitch_fuzz"
#define DESCS 64

struct harness harness;

void
harness_require(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

static void
start_eal(void)
{
	char prefix[32];
	char *args[] = { "fuzz",        "--no-huge",      "-m",  "64", "--no-pci",
			 "--no-shconf", "--no-telemetry", "-l",  "0",  "--log-level",
			 "lib.eal:4",   "--file-prefix",  prefix };

	snprintf(prefix, sizeof(prefix), "eswfuzz%d", getpid());
	harness_require(rte_eal_init(RTE_DIM(args), args) >= 0, "no EAL");
	/* The folder that EAL has made is empty. The fuzzer calls nothing at its end, so it goes
	 * now. */
	rmdir(rte_eal_get_runtime_dir());
}

static uint16_t
start_port(const char *name)
{
	struct rte_eth_conf conf = { 0 };
	uint16_t port;

	harness_require(rte_eth_dev_get_port_by_name(name, &port) == 0 &&
				rte_eth_dev_configure(port, 1, 1, &conf) == 0 &&
				rte_eth_rx_queue_setup(port, 0, DESCS, 0, NULL, harness.pool) ==
					0 &&
				rte_eth_tx_queue_setup(port, 0, DESCS, 0, NULL) == 0 &&
				rte_eth_dev_start(port) == 0,
			name);
	return port;
}

int
LLVMFuzzerInitialize(int *argc __rte_unused, char ***argv __rte_unused)
{
	start_eal();
	harness.pool = rte_pktmbuf_pool_create("fuzz", 1023, 0, 0, 4096, SOCKET_ID_ANY);
	harness_require(harness.pool != NULL, "no pool");
	harness_require(rte_vdev_init("net_null0", "no-rx=1") == 0 &&
				rte_vdev_init("net_null1", "no-rx=1") == 0 &&
				rte_vdev_init("net_null2", "no-rx=1") == 0,
			"no far sides");
	harness_require(
		rte_vdev_init(NIC, "pf0=net_null0,vf0=net_null1,vf1=net_null2,dv_xmeta_en=1") == 0,
		"no NIC");
	harness.pf0 = start_port(NIC);
	harness.vf0 = start_port(NIC "_representor_vf0");
	harness.vf1 = start_port(NIC "_representor_vf1");
	harness.from = rte_eth_devices[harness.vf0].data->dev_private;
	harness.out = calloc(1, sizeof(*harness.out));
	harness_require(harness.out != NULL, "no memory");
	harness.out->nic = harness.from->nic;
	/* Nothing shall run beside the fuzzer: it tells inputs apart by the code that they
	 * reach. */
	esw_pipeline_stop(harness.from->nic);
	return 0;
}

static void
drain(uint16_t port)
{
	struct rte_mbuf *m;

	while (rte_eth_rx_burst(port, 0, &m, 1) == 1)
		rte_pktmbuf_free(m);
}

void
harness_run(struct rte_mbuf *m)
{
	esw_pipeline_burst(harness.out, harness.from, &m, 1);
	drain(harness.pf0);
	drain(harness.vf0);
	drain(harness.vf1);
	harness_require(rte_mempool_full(harness.pool) && rte_mempool_full(harness.from->far.pool),
			"a packet has leaked");
}

void
input_bytes(struct input *in, void *out, size_t n)
{
	size_t there = RTE_MIN(n, in->size);

	memset(out, 0, n);
	memcpy(out, in->data, there);
	in->data += there;
	in->size -= there;
}

uint8_t
input_byte(struct input *in)
{
	uint8_t byte;

	input_bytes(in, &byte, 1);
	return byte;
}
