/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A port's two netdevs. Its far side is the wire, or the guest: a netdev that is there already,
 * reached through a packet socket. Its twin is the netdev that the kernel's driver would have: a
 * TAP device, made here.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_byteorder.h>
#include <rte_ether.h>

#include "device.h"

/* What a far side holds until the card's thread takes it: TCP bursts of many streams. The kernel
 * doubles it. */
#define SOCKET_BUFFER (16 << 20)

/* Times a far side that takes no frames is asked again before they are dropped. */
#define SEND_TRIES 4

static struct cx_port ports[CX_PFS * CX_MAX_VPORTS];
static uint32_t n_ports;
static struct pollfd fds[2 * CX_PFS * CX_MAX_VPORTS + 1];
static char hold[IFNAMSIZ];

struct cx_port *
cx_port_of(const struct cx_vport *vport)
{
	/* They were opened in this order. */
	return &ports[(vport->dev->pf == 0 ? 0 : cx_hcas[0].dev.vports) +
		      (vport - vport->dev->vport)];
}

struct cx_port *
cx_port_by_name(const char *name)
{
	uint32_t i;

	for (i = 0; i < n_ports; i++)
		if (strcmp(ports[i].vport->name, name) == 0)
			return &ports[i];
	return NULL;
}

struct cx_port *
cx_port_at(uint32_t n)
{
	return n < n_ports ? &ports[n] : NULL;
}

uint32_t
cx_ports_max_mtu(void)
{
	uint32_t i, max = 0;

	for (i = 0; i < n_ports; i++)
		max = RTE_MAX(max, load_relaxed(&ports[i].mtu));
	return max;
}

/* ---- counters ---- */

void
cx_stat(struct cx_vport *vport, const char *name, uint64_t n)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct cx_port *port = cx_port_of(vport);
	uint32_t i, used = atomic_load_explicit(&port->stats, memory_order_acquire);

	for (i = 0; i < used; i++)
		if (port->stat[i].name == name)
			break;
	if (i == used) {
		pthread_mutex_lock(&lock);
		for (i = 0; i < load_relaxed(&port->stats); i++)
			if (strcmp(port->stat[i].name, name) == 0)
				break;
		if (i == CX_MAX_STATS) {
			pthread_mutex_unlock(&lock);
			cx_refuse(ENOSPC, "more than %u counters of a port", CX_MAX_STATS);
			return;
		}
		if (i == load_relaxed(&port->stats)) {
			port->stat[i].name = name;
			atomic_store_explicit(&port->stats, i + 1, memory_order_release);
		}
		pthread_mutex_unlock(&lock);
	}
	atomic_fetch_add_explicit(&port->stat[i].n, n, memory_order_relaxed);
}

/* ---- opening ---- */

static int
request(const char *name, unsigned long what, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return errno;
	strcpy(ifr->ifr_name, name);
	ret = ioctl(fd, what, ifr) < 0 ? errno : 0;
	close(fd);
	return ret;
}

static int
set_up(const char *name)
{
	struct ifreq ifr = { 0 };
	int ret = request(name, SIOCGIFFLAGS, &ifr);

	if (ret != 0)
		return ret;
	ifr.ifr_flags |= IFF_UP;
	return request(name, SIOCSIFFLAGS, &ifr);
}

/*
 * The far side is the card's alone: the kernel shall not answer there for addresses that it has on
 * the twin. As a port of a bridge that is down it drops what arrives, behind the packet socket. It
 * does without IPv6's own packets, too.
 */
static void
hold_far(const char *far)
{
	struct ifreq ifr = { 0 };
	char path[64 + IFNAMSIZ];
	FILE *file;
	int ret;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", far);
	file = fopen(path, "we");
	if (file != NULL) {
		fputs("1\n", file);
		fclose(file);
	}
	ifr.ifr_ifindex = if_nametoindex(far);
	ret = request(hold, SIOCBRADDIF, &ifr);
	if (ret != 0)
		cx_refuse(
			ret,
			"the kernel goes on using %s by itself: cannot make it a port of bridge %s: %s",
			far, hold, strerror(ret));
}

static void
delete_hold(int fd)
{
	/* One may be there from a process that has not ended orderly. */
	if (ioctl(fd, SIOCBRDELBR, hold) < 0 && errno != ENXIO && errno != ENOPKG &&
	    errno != ENODEV)
		cx_refuse(errno, "cannot remove bridge %s: %s", hold, strerror(errno));
}

static int
make_hold(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret = 0;

	if (fd < 0)
		return errno;
	snprintf(hold, sizeof(hold), "%shold", cx_config.twin);
	delete_hold(fd);
	if (ioctl(fd, SIOCBRADDBR, hold) < 0)
		ret = errno;
	close(fd);
	return ret;
}

static int
open_far(struct cx_port *port)
{
	struct packet_mreq promiscuous = { .mr_type = PACKET_MR_PROMISC,
					   .mr_ifindex = port->far_ifindex };
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_ifindex = port->far_ifindex };
	const int on = 1, size = SOCKET_BUFFER;

	/* Protocol 0 until it is bound: nothing arrives from other netdevs. */
	port->far_fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (port->far_fd < 0)
		return errno;
	if (setsockopt(port->far_fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
	    setsockopt(port->far_fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) < 0 ||
	    setsockopt(port->far_fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0 ||
	    setsockopt(port->far_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous,
		       sizeof(promiscuous)) < 0 ||
	    setsockopt(port->far_fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
	    setsockopt(port->far_fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		return errno;
	address.sll_protocol = htons(ETH_P_ALL);
	return bind(port->far_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
}

static int
open_twin(struct cx_port *port)
{
	struct ifreq ifr = { 0 }, far = { 0 };
	char name[IFNAMSIZ];
	int ret;

	port->twin_fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (port->twin_fd < 0)
		return errno;
	snprintf(name, sizeof(name), "%s%s", cx_config.twin, port->vport->name);
	strcpy(ifr.ifr_name, name);
	ifr.ifr_flags =
		IFF_TAP |
		IFF_NO_PI; /* one that is there already is taken: a card's outlive a driver */
	if (ioctl(port->twin_fd, TUNSETIFF, &ifr) < 0)
		return errno;
	port->twin_ifindex = if_nametoindex(name);
	ret = request(port->far_name, SIOCGIFHWADDR, &far);
	if (ret == 0)
		ret = request(name, SIOCSIFHWADDR, &far);
	memcpy(port->mac, far.ifr_hwaddr.sa_data, sizeof(port->mac));
	if (ret == 0)
		ret = request(port->far_name, SIOCGIFMTU, &far);
	if (ret == 0)
		ret = request(name, SIOCSIFMTU, &far);
	store_relaxed(&port->mtu, far.ifr_mtu);
	return ret;
}

int
cx_port_open(struct cx_vport *vport, const char *far)
{
	struct cx_port *port = &ports[n_ports];
	struct ifreq ifr = { 0 };
	int ret = n_ports == 0 ? make_hold() : 0;

	if (ret != 0)
		fprintf(stderr, "connectx: cannot make bridge %s: %s\n", hold, strerror(ret));
	port->vport = vport;
	strcpy(port->far_name, far);
	port->far_ifindex = if_nametoindex(far);
	if (port->far_ifindex == 0)
		cx_die("CONNECTX: %s=%s: there is no such netdev in this network namespace",
		       vport->name, far);
	hold_far(far);
	ret = open_far(port);
	if (ret == 0)
		ret = set_up(far);
	if (ret == 0)
		ret = request(far, SIOCGIFFLAGS, &ifr);
	if (ret != 0) {
		fprintf(stderr, "connectx: %s: cannot use %s: %s\n", vport->name, far,
			strerror(ret));
		return ret;
	}
	store_relaxed(&port->far_carrier, (ifr.ifr_flags & IFF_RUNNING) != 0);
	ret = open_twin(port);
	if (ret != 0) {
		fprintf(stderr, "connectx: %s: cannot make its twin %s%s: %s\n", vport->name,
			cx_config.twin, vport->name, strerror(ret));
		return ret;
	}
	n_ports++;
	cx_port_link(port);
	return 0;
}

void
cx_ports_close(void)
{
	int fd;

	if (n_ports == 0)
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		delete_hold(fd);
		close(fd);
	}
}

void
cx_port_link(struct cx_port *port)
{
	const int carrier = load_relaxed(&port->far_carrier) && !load_relaxed(&port->link_down);

	if (ioctl(port->twin_fd, TUNSETCARRIER, &carrier) < 0)
		cx_refuse(errno, "%s: cannot set its twin's carrier: %s", port->vport->name,
			  strerror(errno));
}

/* ---- frames ---- */

static bool
is_lost(struct cx_port *port)
{
	return load_relaxed(&port->link_down) || load_relaxed(&port->far_stopped) ||
	       cx_hca_failed(port->vport->dev);
}

static void
drop(struct cx_port *port, struct rte_mbuf *m, const char *why)
{
	cx_stat(port->vport, why, 1);
	rte_pktmbuf_free(m);
}

/* Whether a frame is within the MTU, which counts neither the Ethernet header nor VLAN tags. */
static bool
fits(struct cx_port *port, const struct rte_mbuf *m)
{
	uint32_t limit = load_relaxed(&port->mtu) + RTE_ETHER_HDR_LEN;
	uint32_t at = 2 * RTE_ETHER_ADDR_LEN;
	int tags;

	for (tags = 0; m->pkt_len > limit && tags < 2; tags++) {
		const rte_be16_t *type = rte_pktmbuf_mtod_offset(m, const rte_be16_t *, at);

		if (*type != RTE_BE16(RTE_ETHER_TYPE_VLAN) &&
		    *type != RTE_BE16(RTE_ETHER_TYPE_QINQ))
			return false;
		limit += RTE_VLAN_HLEN;
		at += RTE_VLAN_HLEN;
	}
	return m->pkt_len <= limit;
}

static void
flush(struct cx_port *port)
{
	static struct virtio_net_hdr plain; /* checksums are complete */
	struct mmsghdr messages[CX_BURST] = { 0 };
	struct iovec parts[CX_BURST][2];
	uint32_t i, sent = 0;
	uint64_t bytes = 0;
	int tries, n;

	for (i = 0; i < port->to_send; i++) {
		struct rte_mbuf *m = port->send[i];

		parts[i][0] = (struct iovec){ &plain, sizeof(plain) };
		parts[i][1] = (struct iovec){ rte_pktmbuf_mtod(m, void *), m->data_len };
		messages[i].msg_hdr.msg_iov = parts[i];
		messages[i].msg_hdr.msg_iovlen = 2;
	}
	for (tries = 0; sent < port->to_send && tries < SEND_TRIES; tries++) {
		n = sendmmsg(port->far_fd, messages + sent, port->to_send - sent, MSG_DONTWAIT);
		if (n > 0)
			sent += n;
		else if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
			break; /* the first one is what is wrong, as when the netdev is down */
	}
	for (i = 0; i < port->to_send; i++) {
		bytes += i < sent ? port->send[i]->pkt_len : 0;
		rte_pktmbuf_free(port->send[i]);
	}
	cx_stat(port->vport, "far_tx_packets", sent);
	cx_stat(port->vport, "far_tx_bytes", bytes);
	if (sent < port->to_send)
		cx_stat(port->vport, "far_tx_errors", port->to_send - sent);
	port->to_send = 0;
}

void
cx_ports_flush(void)
{
	uint32_t i;

	for (i = 0; i < n_ports; i++)
		if (ports[i].to_send > 0)
			flush(&ports[i]);
}

void
cx_far_send(struct cx_vport *vport, struct rte_mbuf *m)
{
	struct cx_port *port = cx_port_of(vport);

	if (is_lost(port))
		return drop(port, m, "fault_dropped");
	if (!fits(port, m))
		return drop(port, m, "oversize");
	port->send[port->to_send++] = m;
	if (port->to_send == CX_BURST)
		flush(port);
}

void
cx_twin_receive(struct cx_vport *vport, struct rte_mbuf *m)
{
	struct cx_port *port = cx_port_of(vport);

	/* A twin that is down takes nothing, as a netdev. */
	if (write(port->twin_fd, rte_pktmbuf_mtod(m, void *), m->data_len) < 0)
		cx_stat(vport, "twin_rx_errors", 1);
	else
		cx_stat(vport, "twin_rx_packets", 1);
	rte_pktmbuf_free(m);
}

/* What the kernel has said of a frame beside its bytes: a checksum to complete, a tag that it has
 * taken off. */
static bool
finish(struct rte_mbuf *m, const struct virtio_net_hdr *hdr, struct msghdr *message)
{
	struct cmsghdr *control;
	struct tpacket_auxdata aux;

	if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		cx_checksum_complete(m, hdr->csum_start, hdr->csum_offset);
	for (control = CMSG_FIRSTHDR(message); control != NULL;
	     control = CMSG_NXTHDR(message, control)) {
		if (control->cmsg_level != SOL_PACKET || control->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(&aux, CMSG_DATA(control), sizeof(aux));
		if (aux.tp_status & TP_STATUS_VLAN_VALID)
			return cx_vlan_insert(m, aux.tp_vlan_tpid, aux.tp_vlan_tci) == 0;
	}
	return true;
}

static void
arrive(struct cx_port *port, struct rte_mbuf *m)
{
	cx_stat(port->vport, "far_rx_packets", 1);
	cx_stat(port->vport, "far_rx_bytes", m->pkt_len);
	if (is_lost(port))
		drop(port, m, "fault_dropped");
	else if (m->pkt_len < RTE_ETHER_HDR_LEN)
		drop(port, m, "malformed");
	else if (!fits(port, m))
		drop(port, m, "oversize");
	else
		cx_steer_from_far(port->vport, m);
}

/* Buffers that the next frames are received into, whichever port they come from. */
static struct rte_mbuf *spare[CX_BURST];

static uint32_t
fill_spare(void)
{
	uint32_t i;

	for (i = 0; i < CX_BURST; i++) {
		if (spare[i] == NULL)
			spare[i] = cx_buffer();
		if (spare[i] == NULL)
			break;
	}
	return i;
}

static bool
poll_far(struct cx_port *port)
{
	struct virtio_net_hdr hdr[CX_BURST];
	struct iovec parts[CX_BURST][2];
	struct mmsghdr messages[CX_BURST] = { 0 };
	char control[CX_BURST][CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	uint32_t i, room = fill_spare();
	int n;

	for (i = 0; i < room; i++) {
		parts[i][0] = (struct iovec){ &hdr[i], sizeof(hdr[i]) };
		parts[i][1] = (struct iovec){ rte_pktmbuf_mtod(spare[i], void *),
					      rte_pktmbuf_tailroom(spare[i]) };
		messages[i].msg_hdr.msg_iov = parts[i];
		messages[i].msg_hdr.msg_iovlen = 2;
		messages[i].msg_hdr.msg_control = control[i];
		messages[i].msg_hdr.msg_controllen = sizeof(control[i]);
	}
	n = recvmmsg(port->far_fd, messages, room, MSG_DONTWAIT, NULL);
	for (i = 0; (int)i < n; i++) {
		struct rte_mbuf *m = spare[i];

		spare[i] = NULL;
		if (messages[i].msg_len < sizeof(hdr[i])) {
			drop(port, m, "malformed");
		} else if (messages[i].msg_hdr.msg_flags & MSG_TRUNC) {
			drop(port, m, "oversize");
		} else {
			rte_pktmbuf_append(m, messages[i].msg_len - sizeof(hdr[i]));
			if (!finish(m, &hdr[i], &messages[i].msg_hdr))
				drop(port, m, "malformed");
			else
				arrive(port, m);
		}
	}
	return n > 0;
}

/* Gives the card's buffers back. */
void
cx_ports_stop(void)
{
	uint32_t i;

	cx_ports_flush();
	for (i = 0; i < CX_BURST; i++) {
		rte_pktmbuf_free(spare[i]);
		spare[i] = NULL;
	}
}

/* Counts what the kernel had no room for at the far side since it was last asked. */
void
cx_port_read_drops(struct cx_port *port)
{
	struct tpacket_stats stats;
	socklen_t size = sizeof(stats);

	if (getsockopt(port->far_fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0 &&
	    stats.tp_drops > 0)
		cx_stat(port->vport, "far_rx_errors", stats.tp_drops);
}

static bool
poll_twin(struct cx_port *port)
{
	uint32_t i;

	for (i = 0; i < CX_BURST; i++) {
		struct rte_mbuf *m = cx_buffer();
		ssize_t n = m == NULL ? -1 :
					read(port->twin_fd, rte_pktmbuf_mtod(m, void *),
					     rte_pktmbuf_tailroom(m));

		if (n < 0) {
			rte_pktmbuf_free(m);
			break;
		}
		rte_pktmbuf_append(m, n);
		cx_stat(port->vport, "twin_tx_packets", 1);
		cx_steer_from_twin(port->vport, m);
	}
	return i > 0;
}

void
cx_ports_wait(uint32_t timeout_us)
{
	const struct timespec timeout = { .tv_nsec = timeout_us * 1000 };
	uint32_t i;

	for (i = 0; i < n_ports; i++) {
		fds[2 * i] = (struct pollfd){ .fd = ports[i].far_fd, .events = POLLIN };
		fds[2 * i + 1] = (struct pollfd){ .fd = ports[i].twin_fd, .events = POLLIN };
	}
	fds[2 * n_ports] = (struct pollfd){ .fd = cx_monitor_fd(), .events = POLLIN };
	if (ppoll(fds, 2 * n_ports + 1, &timeout, NULL) < 0 && errno != EINTR)
		cx_refuse(errno, "ppoll: %s", strerror(errno));
}

bool
cx_ports_take(void)
{
	bool some = false;
	uint32_t i;

	if (fds[2 * n_ports].revents != 0)
		cx_monitor_poll();
	for (i = 0; i < n_ports; i++) {
		if (fds[2 * i].revents & POLLIN)
			some |= poll_far(&ports[i]);
		else if (fds[2 * i].revents & POLLERR)
			recv(ports[i].far_fd, &some, 0,
			     MSG_DONTWAIT); /* takes the error: the netdev was down */
		if (fds[2 * i + 1].revents & POLLIN)
			some |= poll_twin(&ports[i]);
	}
	return some;
}
