/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the kernel's driver would answer to ethtool about a twin: counters, and the link's speed. A
 * TAP device has none of it, so ioctl is answered here for these requests of this process.
 */

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_common.h>

#include "device.h"

#define SPEED 100000 /* Mbit/s */

/* Words of a mask of link modes, of which the lowest is used. */
#define MODE_WORDS 3

/* The kernel driver's names that net_mlx5 looks for, and the counters of the port that they are. */
struct counter {
	const char *name;
	const char *stat[3];
};

static const struct counter uplink[] = {
	{ "rx_packets_phy", { "far_rx_packets" } },
	{ "rx_bytes_phy", { "far_rx_bytes" } },
	{ "rx_discards_phy", { "oversize", "malformed", "no_buffer" } },
	{ "tx_packets_phy", { "far_tx_packets" } },
	{ "tx_bytes_phy", { "far_tx_bytes" } },
	{ "tx_errors_phy", { "far_tx_errors" } },
};

/* What a VF sends is what its representor receives. */
static const struct counter vf[] = {
	{ "vport_rx_packets", { "far_rx_packets" } },
	{ "vport_rx_bytes", { "far_rx_bytes" } },
	{ "vport_tx_packets", { "far_tx_packets" } },
	{ "vport_tx_bytes", { "far_tx_bytes" } },
};

static const struct counter *
counters_of(const struct cx_port *port, uint32_t *n)
{
	bool is_uplink = port->vport->id == CX_VPORT_UPLINK;

	*n = is_uplink ? RTE_DIM(uplink) : RTE_DIM(vf);
	return is_uplink ? uplink : vf;
}

static uint64_t
value_of(const struct cx_port *port, const struct counter *counter)
{
	uint32_t i, j, n = atomic_load_explicit(&port->stats, memory_order_acquire);
	uint64_t sum = 0;

	for (j = 0; j < RTE_DIM(counter->stat) && counter->stat[j] != NULL; j++)
		for (i = 0; i < n; i++)
			if (strcmp(port->stat[i].name, counter->stat[j]) == 0)
				sum += load_relaxed(&port->stat[i].n);
	return sum;
}

static void
get_info(const struct cx_port *port, struct ethtool_drvinfo *info)
{
	memset(info, 0, sizeof(*info));
	info->cmd = ETHTOOL_GDRVINFO;
	strcpy(info->driver, port->vport->id == CX_VPORT_UPLINK ? "mlx5_core" : "mlx5e_rep");
	counters_of(port, &info->n_stats);
}

static void
get_strings(const struct cx_port *port, struct ethtool_gstrings *strings)
{
	uint32_t n, i;
	const struct counter *counters = counters_of(port, &n);

	strings->len = n;
	for (i = 0; i < n; i++)
		strncpy((char *)strings->data + i * ETH_GSTRING_LEN, counters[i].name,
			ETH_GSTRING_LEN);
}

static void
get_stats(const struct cx_port *port, struct ethtool_stats *stats)
{
	uint32_t n, i;
	const struct counter *counters = counters_of(port, &n);

	stats->n_stats = n;
	for (i = 0; i < n; i++)
		stats->data[i] = value_of(port, &counters[i]);
}

/* The first time the caller asks how many words a mask of modes has. */
static void
get_link(struct ethtool_link_settings *link)
{
	__s8 words = link->link_mode_masks_nwords;

	memset(link, 0, sizeof(*link));
	link->cmd = ETHTOOL_GLINKSETTINGS;
	link->speed = SPEED;
	link->duplex = DUPLEX_FULL;
	link->link_mode_masks_nwords = words == MODE_WORDS ? words : -MODE_WORDS;
	if (words != MODE_WORDS)
		return;
	memset(link->link_mode_masks, 0, 3 * MODE_WORDS * sizeof(__u32));
	link->link_mode_masks[ETHTOOL_LINK_MODE_100000baseCR4_Full_BIT / 32] |=
		1u << ETHTOOL_LINK_MODE_100000baseCR4_Full_BIT % 32;
}

/* Whether it was answered. */
static bool
answer(struct ifreq *ifr)
{
	unsigned int ifindex = if_nametoindex(ifr->ifr_name);
	const struct cx_port *port;
	__u32 command;
	uint32_t n;

	for (n = 0; (port = cx_port_at(n)) != NULL && port->twin_ifindex != ifindex; n++)
		;
	if (port == NULL || ifindex == 0)
		return false;
	memcpy(&command, ifr->ifr_data, sizeof(command));
	switch (command) {
	case ETHTOOL_GDRVINFO:
		get_info(port, (void *)ifr->ifr_data);
		return true;
	case ETHTOOL_GSTRINGS:
		get_strings(port, (void *)ifr->ifr_data);
		return true;
	case ETHTOOL_GSTATS:
		get_stats(port, (void *)ifr->ifr_data);
		return true;
	case ETHTOOL_GLINKSETTINGS:
		get_link((void *)ifr->ifr_data);
		return true;
	default:
		return false;
	}
}

int
ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *argument;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	if (request == SIOCETHTOOL && answer(argument))
		return 0;
	return syscall(SYS_ioctl, fd, request, argument);
}
