/* SPDX-License-Identifier: Apache-2.0 */

/* Listens to the kernel's news of netdevs: carriers of far sides, MTUs of twins. */

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device.h"

static int monitor = -1;

int
cx_monitor_open(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };

	monitor = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (monitor < 0 || bind(monitor, (struct sockaddr *)&address, sizeof(address)) < 0)
		return errno;
	return 0;
}

int
cx_monitor_fd(void)
{
	return monitor;
}

static void
set_carrier(struct cx_port *port, bool carrier)
{
	if (load_relaxed(&port->far_carrier) == carrier)
		return;
	store_relaxed(&port->far_carrier, carrier);
	cx_port_link(port);
}

static void
set_mtu(struct cx_port *port, const struct ifinfomsg *info, int size)
{
	const struct rtattr *attribute;
	uint32_t mtu;

	for (attribute = IFLA_RTA(info); RTA_OK(attribute, size);
	     attribute = RTA_NEXT(attribute, size))
		if (attribute->rta_type == IFLA_MTU) {
			memcpy(&mtu, RTA_DATA(attribute), sizeof(mtu));
			store_relaxed(&port->mtu, mtu);
		}
}

static void
take(const struct nlmsghdr *message)
{
	const struct ifinfomsg *info = NLMSG_DATA(message);
	struct cx_port *port;
	uint32_t n;

	/* A bridge reports its ports, too, in messages of its own family. */
	if ((message->nlmsg_type != RTM_NEWLINK && message->nlmsg_type != RTM_DELLINK) ||
	    info->ifi_family != AF_UNSPEC)
		return;
	for (n = 0; (port = cx_port_at(n)) != NULL; n++) {
		if (port->far_ifindex == (unsigned int)info->ifi_index)
			set_carrier(port, message->nlmsg_type == RTM_NEWLINK &&
						  info->ifi_flags & IFF_RUNNING);
		if (port->twin_ifindex == (unsigned int)info->ifi_index)
			set_mtu(port, info, IFLA_PAYLOAD(message));
	}
}

void
cx_monitor_poll(void)
{
	char buffer[16384] __attribute__((aligned(NLMSG_ALIGNTO)));
	ssize_t size;

	for (;;) {
		const struct nlmsghdr *message = (const struct nlmsghdr *)buffer;

		size = recv(monitor, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (size <= 0)
			return;
		for (; NLMSG_OK(message, size); message = NLMSG_NEXT(message, size))
			take(message);
	}
}
