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
 */

#include <errno.h>
#include <stdio.h>

#include <bus_vdev_driver.h>
#include <ethdev_driver.h>

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

	if (args == NULL || sscanf(args, "ports=%u", &ports) != 1 ||
	    ports > RTE_DIM(reserved))
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

static int
leave(struct rte_vdev_device *vdev __rte_unused)
{
	return 0;
}

static struct rte_vdev_driver reserve_driver = { .probe = reserve, .remove = leave };
static struct rte_vdev_driver yield_driver = { .probe = yield, .remove = leave };
static struct rte_vdev_driver rss_driver = { .probe = announce_rss, .remove = leave };

RTE_PMD_REGISTER_VDEV(net_reserve, reserve_driver);
RTE_PMD_REGISTER_VDEV(net_yield, yield_driver);
RTE_PMD_REGISTER_VDEV(net_rss, rss_driver);
RTE_PMD_REGISTER_PARAM_STRING(net_reserve, "ports=<n>");
