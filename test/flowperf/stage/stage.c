/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What dpdk-test-flow-perf takes for granted and net_eswitch does not have:
 *
 * - The ports are the ethdevs 0 to n-1, n being how many have no owner. The
 *   NIC's far sides have one, but are probed before the NIC. This plugin lets
 *   the NIC's ports stand in front of them.
 * - A port spreads IP packets over its queues. The program has one queue, so
 *   saying so is enough.
 *
 *   --vdev=net_reserve0,ports=2   takes the ids 0 and 1
 *   --vdev=net_null0 --vdev=net_null1
 *   --vdev=net_yield0             gives them back
 *   --vdev=net_eswitch0,pf0=net_null0,vf0=net_null1
 *   --vdev=net_rss0               lets the ports 0 and 1 announce RSS
 *
 * And it sends no packets, and does not ask its rules what they have counted:
 *
 *   --vdev=net_count0,packets=64  once all rules are there, lets packets from 0.0.0.0, 0.0.0.1 and
 * so on arrive at the far side net_ring0; asks each rule before it goes, and says so at the end
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bus_vdev_driver.h>
#include <ethdev_driver.h>
#include <rte_flow_driver.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

static struct rte_eth_dev *reserved[RTE_MAX_ETHPORTS];
static unsigned int ports;
static const struct eth_dev_ops *real_ops[RTE_MAX_ETHPORTS];
static struct eth_dev_ops staged_ops[RTE_MAX_ETHPORTS];

static int
reserve(struct rte_vdev_device *vdev)
{
	const char *args = rte_vdev_device_args(vdev);
	char name[RTE_ETH_NAME_MAX_LEN];
	unsigned int i;

	if (args == NULL || sscanf(args, "ports=%u", &ports) != 1 || ports > RTE_DIM(reserved))
		return -EINVAL;
	for (i = 0; i < ports; i++) {
		snprintf(name, sizeof(name), "reserved%u", i);
		reserved[i] = rte_eth_dev_allocate(name);
		if (reserved[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static int
yield(struct rte_vdev_device *vdev __rte_unused)
{
	unsigned int i;
	int rc = 0;

	for (i = 0; rc == 0 && i < ports; i++)
		rc = rte_eth_dev_release_port(reserved[i]);
	return rc;
}

static int
infos_with_rss(struct rte_eth_dev *dev, struct rte_eth_dev_info *info)
{
	int rc = real_ops[dev->data->port_id]->dev_infos_get(dev, info);

	info->flow_type_rss_offloads |= RTE_ETH_RSS_IP;
	return rc;
}

static int
announce_rss(struct rte_vdev_device *vdev __rte_unused)
{
	unsigned int i;

	for (i = 0; i < ports; i++) {
		if (!rte_eth_dev_is_valid_port(i))
			return -ENODEV;
		real_ops[i] = rte_eth_devices[i].dev_ops;
		staged_ops[i] = *real_ops[i];
		staged_ops[i].dev_infos_get = infos_with_rss;
		rte_eth_devices[i].dev_ops = &staged_ops[i];
	}
	return 0;
}

#define FRAME 60

/* An IPv4 packet of that source address. */
static int
make_packet(struct rte_mempool *pool, struct rte_mbuf **packet, uint32_t source)
{
	const rte_be32_t address = rte_cpu_to_be_32(source);
	const uint8_t head[] = { 0x08, 0x00, 0x45, 0, 0, FRAME - RTE_ETHER_HDR_LEN };
	uint8_t *data;

	*packet = rte_pktmbuf_alloc(pool);
	if (*packet == NULL)
		return -ENOMEM;
	data = (uint8_t *)rte_pktmbuf_append(*packet, FRAME);
	memset(data, 0, FRAME);
	memcpy(data + 12, head, sizeof(head));
	memcpy(data + 26, &address, sizeof(address));
	return 0;
}

/* Lets so many packets arrive at the far side net_ring0, and waits until the rules have dropped
 * them. */
static int
inject(uint32_t n)
{
	struct rte_mempool *pool =
		rte_pktmbuf_pool_create("count", n, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	struct rte_ring *ring = rte_ring_lookup("ETH_RXTX0_net_ring0");
	struct rte_mbuf *packet;
	uint32_t i;

	if (pool == NULL || ring == NULL)
		return -ENODEV;
	for (i = 0; i < n; i++)
		if (make_packet(pool, &packet, i) < 0 || rte_ring_enqueue(ring, packet) < 0)
			return -ENOMEM;
	for (i = 0; i < 10000 && rte_mempool_avail_count(pool) < n; i++)
		usleep(1000);
	return rte_mempool_avail_count(pool) < n ? -ETIMEDOUT : 0;
}

static uint32_t to_inject;
static struct rte_flow_ops counted_ops;
static int (*real_destroy)(struct rte_eth_dev *dev, struct rte_flow *flow,
			   struct rte_flow_error *error);
static uint64_t asked, with_packets, packets, bytes, unanswered;

static int
count_and_destroy(struct rte_eth_dev *dev, struct rte_flow *flow, struct rte_flow_error *error)
{
	const struct rte_flow_action actions[] = { { .type = RTE_FLOW_ACTION_TYPE_COUNT },
						   { .type = RTE_FLOW_ACTION_TYPE_END } };
	struct rte_flow_query_count count = { 0 };

	if (to_inject > 0 && inject(to_inject) < 0)
		fprintf(stderr, "the rules have not dropped %u packets\n", to_inject);
	to_inject = 0;
	asked++;
	if (counted_ops.query(dev, flow, actions, &count, error) < 0 || !count.hits_set ||
	    !count.bytes_set)
		unanswered++;
	with_packets += count.hits > 0;
	packets += count.hits;
	bytes += count.bytes;
	return real_destroy(dev, flow, error);
}

static int
counted_ops_get(struct rte_eth_dev *dev __rte_unused, const struct rte_flow_ops **ops)
{
	*ops = &counted_ops;
	return 0;
}

/* The ports are one NIC's, so their rte_flow is the same. */
static int
count(struct rte_vdev_device *vdev)
{
	const char *args = rte_vdev_device_args(vdev);
	const struct rte_flow_ops *ops;
	unsigned int i;
	int rc = real_ops[0]->flow_ops_get(&rte_eth_devices[0], &ops);

	if (rc < 0)
		return rc;
	if (args == NULL || sscanf(args, "packets=%u", &to_inject) != 1)
		return -EINVAL;
	counted_ops = *ops;
	real_destroy = ops->destroy;
	counted_ops.destroy = count_and_destroy;
	for (i = 0; i < ports; i++)
		staged_ops[i].flow_ops_get = counted_ops_get;
	return 0;
}

static void __attribute__((destructor)) report(void)
{
	if (asked > 0)
		printf("asked %" PRIu64 " rules, %" PRIu64 " did not count, %" PRIu64
		       " had packets: %" PRIu64 " with %" PRIu64 " bytes\n",
		       asked, unanswered, with_packets, packets, bytes);
}

static int
leave(struct rte_vdev_device *vdev __rte_unused)
{
	return 0;
}

static struct rte_vdev_driver reserve_driver = { .probe = reserve, .remove = leave };
static struct rte_vdev_driver yield_driver = { .probe = yield, .remove = leave };
static struct rte_vdev_driver rss_driver = { .probe = announce_rss, .remove = leave };
static struct rte_vdev_driver count_driver = { .probe = count, .remove = leave };

RTE_PMD_REGISTER_VDEV(net_reserve, reserve_driver);
RTE_PMD_REGISTER_VDEV(net_yield, yield_driver);
RTE_PMD_REGISTER_VDEV(net_rss, rss_driver);
RTE_PMD_REGISTER_VDEV(net_count, count_driver);
RTE_PMD_REGISTER_PARAM_STRING(net_reserve, "ports=<n>");
