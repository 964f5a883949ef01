/* SPDX-License-Identifier: Apache-2.0 */

/* One vdev is one NIC: its ports, from probe to the close of the last of them. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>

#include "eswitch.h"

RTE_LOG_REGISTER(esw_logtype, pmd.net.eswitch, NOTICE);

static TAILQ_HEAD(, esw_nic) nics = TAILQ_HEAD_INITIALIZER(nics);

/* Telemetry's thread looks for NICs too. Taken before a NIC's flow_lock. */
static pthread_mutex_t nics_lock = PTHREAD_MUTEX_INITIALIZER;

static int
name_port(struct esw_port *port)
{
	const char *nic = port->nic->name;
	size_t size = sizeof(port->name);
	int len = 0;

	snprintf(port->label, sizeof(port->label), port->kind == ESW_VF ? "vf%u" : "pf%u",
		 port->kind == ESW_VF ? port->vf : port->kind == ESW_PF1);
	switch (port->kind) {
	case ESW_PF0:
		len = snprintf(port->name, size, "%s", nic);
		break;
	case ESW_PF1:
		len = snprintf(port->name, size, "%s_pf1", nic);
		break;
	case ESW_VF:
		len = snprintf(port->name, size, "%s_representor_vf%u", nic, port->vf);
		break;
	}
	return len < 0 || (size_t)len >= size ? -ENAMETOOLONG : 0;
}

static int
add_port(struct esw_nic *nic, enum esw_kind kind, uint16_t vf, const char *far)
{
	struct esw_port *port = calloc(1, sizeof(*port));
	int ret;

	if (port == NULL)
		return -ENOMEM;
	port->nic = nic;
	port->kind = kind;
	port->vf = vf;
	port->index = nic->ports;
	TAILQ_INIT(&port->flows);
	TAILQ_INIT(&port->handles);
	TAILQ_INIT(&port->aged);
	pthread_mutex_init(&port->far.lock, NULL);
	nic->port[nic->ports++] = port;
	ret = name_port(port);
	if (ret < 0)
		return ret;
	port->ingress_root = esw_group_get(&port->ingress, 0);
	if (port->ingress_root == NULL)
		return -ENOMEM;
	return esw_far_open(port, far);
}

static void
free_port(struct esw_port *port)
{
	esw_far_close(port);
	pthread_mutex_destroy(&port->far.lock);
	esw_groups_free(&port->ingress);
	esw_groups_free(&port->egress);
	free(port);
}

/* Frees the NIC. Its ports are closed; on a failed probe some never were ethdevs. */
static void
free_nic(struct esw_nic *nic)
{
	uint32_t i;

	esw_age_stop(nic);
	esw_fault_stop(nic);
	esw_pipeline_stop(nic);
	for (i = 0; i < nic->ports; i++)
		free_port(nic->port[i]);
	esw_groups_free(&nic->transfer);
	esw_programs_free(&nic->programs);
	if (nic->has_domain)
		rte_eth_switch_domain_free(nic->domain);
	pthread_mutex_destroy(&nic->flow_lock);
	free(nic->rcu);
	free(nic);
}

static int
identify(struct esw_nic *nic)
{
	int ret;

	ret = rte_eth_switch_domain_alloc(&nic->domain);
	if (ret < 0)
		return ret;
	nic->has_domain = true;
	snprintf(nic->owner.name, sizeof(nic->owner.name), "%s", nic->name);
	return rte_eth_dev_owner_new(&nic->owner.id);
}

static int
open_ports(struct esw_nic *nic, const struct esw_devargs *args)
{
	uint32_t i;
	int ret;

	for (i = 0; i < args->ports; i++) {
		ret = add_port(nic, args->port[i].kind, args->port[i].vf, args->port[i].far);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* The faults that are there from the start. */
static int
set_faults(struct esw_nic *nic, const struct esw_devargs *args)
{
	char message[160];
	int ret;

	esw_fault_clear(nic);
	ret = esw_fault_set(nic, args->faults, message, sizeof(message));
	if (ret < 0)
		ESW_LOG(ERR, "%s: %s\n", nic->name, message);
	return ret;
}

static int
create_ethdevs(struct esw_nic *nic)
{
	uint32_t i;
	int ret;

	for (i = 0; i < nic->ports; i++) {
		ret = esw_ethdev_create(nic->port[i]);
		if (ret < 0)
			return ret;
		nic->open_ports++;
	}
	return 0;
}

/* Closes the ports that are open. The last one takes the NIC with it. */
static void
close_ports(struct esw_nic *nic)
{
	uint16_t open[ESW_MAX_PORTS];
	uint32_t i, n = 0;

	for (i = 0; i < nic->ports; i++)
		if (nic->port[i]->dev != NULL)
			open[n++] = nic->port[i]->ethdev;
	/* PF0, which speaks for the others, goes last. */
	while (n > 0) {
		n--;
		if (rte_eth_dev_stop(open[n]) < 0 || rte_eth_dev_close(open[n]) < 0)
			ESW_LOG(ERR, "cannot close port %u\n", open[n]);
	}
}

static struct esw_nic *
new_nic(struct rte_vdev_device *vdev)
{
	struct esw_nic *nic = calloc(1, sizeof(*nic));

	if (nic == NULL)
		return NULL;
	nic->vdev = vdev;
	snprintf(nic->name, sizeof(nic->name), "%s", rte_vdev_device_name(vdev));
	pthread_mutex_init(&nic->flow_lock, NULL);
	TAILQ_INIT(&nic->gone);
	TAILQ_INIT(&nic->waiting);
	nic->transfer_root = esw_group_get(&nic->transfer, 0);
	if (nic->transfer_root == NULL) {
		free_nic(nic);
		return NULL;
	}
	return nic;
}

static void
list_nic(struct esw_nic *nic)
{
	pthread_mutex_lock(&nics_lock);
	TAILQ_INSERT_TAIL(&nics, nic, next);
	pthread_mutex_unlock(&nics_lock);
}

static void
unlist_nic(struct esw_nic *nic)
{
	pthread_mutex_lock(&nics_lock);
	TAILQ_REMOVE(&nics, nic, next);
	pthread_mutex_unlock(&nics_lock);
}

static int
probe(struct rte_vdev_device *vdev)
{
	struct esw_devargs args;
	struct esw_nic *nic;
	int ret;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY) {
		ESW_LOG(ERR, "%s: secondary processes are not supported\n",
			rte_vdev_device_name(vdev));
		return -ENOTSUP;
	}
	ret = esw_devargs_parse(rte_vdev_device_args(vdev), &args);
	if (ret < 0)
		return ret;
	nic = new_nic(vdev);
	if (nic == NULL)
		return -ENOMEM;
	nic->metadata = args.metadata;
	nic->card = args.card;
	ret = identify(nic);
	if (ret == 0)
		ret = open_ports(nic, &args);
	if (ret == 0)
		ret = set_faults(nic, &args);
	if (ret == 0)
		ret = esw_pipeline_start(nic);
	if (ret == 0)
		ret = esw_age_start(nic);
	if (ret < 0) {
		free_nic(nic);
		return ret;
	}
	list_nic(nic);
	ret = create_ethdevs(nic);
	if (ret < 0 && nic->open_ports > 0) {
		close_ports(nic);
	} else if (ret < 0) {
		unlist_nic(nic);
		free_nic(nic);
	}
	return ret;
}

static int
remove_nic(struct rte_vdev_device *vdev)
{
	struct esw_nic *nic;

	TAILQ_FOREACH(nic, &nics, next) {
		if (nic->vdev == vdev) {
			close_ports(nic);
			break;
		}
	}
	return 0;
}

/* Notes that a port's ethdev is gone. What is behind the port stays, and rules forward to it, until
 * all are. */
void
esw_nic_port_closed(struct esw_port *port)
{
	struct esw_nic *nic = port->nic;

	pthread_mutex_lock(&nic->flow_lock);
	port->dev = NULL;
	pthread_mutex_unlock(&nic->flow_lock);
	if (--nic->open_ports > 0)
		return;
	unlist_nic(nic);
	free_nic(nic);
}

/* The uplink, which every NIC has. */
struct esw_port *
esw_nic_pf0(const struct esw_nic *nic)
{
	return nic->port[0];
}

/* The NIC's open port that is the given ethdev, or NULL. */
struct esw_port *
esw_nic_port_by_ethdev(const struct esw_nic *nic, uint32_t ethdev)
{
	uint32_t i;

	for (i = 0; i < nic->ports; i++)
		if (nic->port[i]->dev != NULL && nic->port[i]->ethdev == ethdev)
			return nic->port[i];
	return NULL;
}

/* The NIC's port of that name, the ethdev's or the one of the devargs, or NULL. */
struct esw_port *
esw_nic_port_by_name(const struct esw_nic *nic, const char *name)
{
	uint32_t i;

	for (i = 0; i < nic->ports; i++)
		if (strcmp(nic->port[i]->label, name) == 0 || strcmp(nic->port[i]->name, name) == 0)
			return nic->port[i];
	return NULL;
}

/* The NIC of that name, which stays until esw_nics_unlock. NULL, and nothing is locked, when there
 * is none. */
struct esw_nic *
esw_nic_find_locked(const char *name)
{
	struct esw_nic *nic;

	pthread_mutex_lock(&nics_lock);
	TAILQ_FOREACH(nic, &nics, next)
		if (strcmp(nic->name, name) == 0)
			return nic;
	pthread_mutex_unlock(&nics_lock);
	return NULL;
}

void
esw_nics_unlock(void)
{
	pthread_mutex_unlock(&nics_lock);
}

static struct rte_vdev_driver driver = {
	.probe = probe,
	.remove = remove_nic,
};

RTE_PMD_REGISTER_VDEV(net_eswitch, driver);
RTE_PMD_REGISTER_PARAM_STRING(
	net_eswitch, "pf0=<ethdev> pf1=<ethdev> vf<n>=<ethdev> dv_xmeta_en=<0|1> "
		     "fail_<call>=<n> fail_errno=<errno> create_delay_us=<us> far_stop=<port> "
		     "link_down=<port>");
