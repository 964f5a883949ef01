/* SPDX-License-Identifier: Apache-2.0 */

#ifndef DPS_ETHDEV_H
#define DPS_ETHDEV_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ethdev.h>

#define DPS_DRIVER_NAME_LEN 64

struct dps_port_info {
	char name[RTE_ETH_NAME_MAX_LEN];
	char driver[DPS_DRIVER_NAME_LEN];
	char switch_name[RTE_ETH_NAME_MAX_LEN];
	struct rte_ether_addr mac;
	uint32_t if_index;
	uint16_t mtu;
	uint16_t max_rxq, max_txq;
	uint16_t domain;
	uint16_t switch_port;
	bool has_domain;
	bool representor;
};

struct dps_port_config {
	uint16_t rxq, txq;
	uint16_t rxd, txd;
};

struct dps_port_link {
	bool up;
	uint32_t mbps;
};

/* All return 0 or a negative errno; dps_port_xstats() the number of values. */
int dps_port_info(uint16_t port, struct dps_port_info *out);
int dps_port_configure(uint16_t port, const struct dps_port_config *cfg, struct rte_mempool *pool);
/* Whether the device has said, since the port was configured, that it was removed, or that nothing
 * can be done with it any more. */
bool dps_port_removed(uint16_t port);
int dps_port_link(uint16_t port, struct dps_port_link *out);
int dps_port_xstats(uint16_t port, struct rte_eth_xstat_name *names, struct rte_eth_xstat *values,
		    unsigned int n);

#endif
