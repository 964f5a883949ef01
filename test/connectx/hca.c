/* SPDX-License-Identifier: Apache-2.0 */

/* The card's PFs as verbs and netlink show them, and the table through which the driver calls
 * verbs. */

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <rte_ether.h>

#include "mlx5_glue.h"
#include "mlx5_prm.h"
#include "mlx5_common.h"
#include "mlx5_nl.h"

#include "device.h"
#include "refused.h"

/* phys_switch_id of the E-Switch. */
#define SWITCH_ID 0x1c0

/* What the driver may set a port's MTU to, as the kernel's driver bounds it (MLX5E_MAX...:
 * 9978). */
#define MIN_MTU 68
#define MAX_MTU 9978

struct cx_hca cx_hcas[CX_PFS];
uint32_t cx_pfs;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t opened;

struct cx_dev *
cx_dev_of(const struct ibv_context *context)
{
	return &((struct cx_hca *)((char *)context - offsetof(struct cx_hca, context)))->dev;
}

static struct cx_hca *
hca_of(const struct cx_dev *dev)
{
	return &cx_hcas[dev->pf];
}

bool
cx_hca_failed(const struct cx_dev *dev)
{
	return atomic_load_explicit(&hca_of(dev)->fatal, memory_order_acquire);
}

void
cx_hca_fail(struct cx_dev *dev)
{
	cx_event_fatal(hca_of(dev));
}

struct cx_vport *
cx_vport_by_ib_port(struct cx_dev *dev, uint32_t ib_port)
{
	return ib_port >= 1 && ib_port <= dev->vports ? &dev->vport[ib_port - 1] : NULL;
}

struct cx_vport *
cx_vport_by_id(struct cx_dev *dev, uint16_t id)
{
	uint32_t i;

	for (i = 0; i < dev->vports; i++)
		if (dev->vport[i].id == id)
			return &dev->vport[i];
	return NULL;
}

/* ---- setting up ---- */

static void
add_vport(struct cx_dev *dev, uint32_t port)
{
	struct cx_vport *vport = &dev->vport[dev->vports++];

	vport->dev = dev;
	vport->ib_port = dev->vports;
	if (port == 0) {
		vport->id = CX_VPORT_UPLINK;
		snprintf(vport->name, sizeof(vport->name), "pf%u", dev->pf);
	} else {
		vport->id = port;
		snprintf(vport->name, sizeof(vport->name), "vf%u", (uint8_t)(port - 1));
	}
	/* As the kernel's driver does: some number in the upper half of the register, another for
	 * each vport. */
	vport->meta_tag = vport->ib_port << 16;
}

static int
init_hca(uint32_t pf)
{
	struct cx_hca *hca = &cx_hcas[pf];
	uint32_t port;
	int ret;

	hca->dev.pf = pf;
	hca->dev.profile = cx_config.profile;
	hca->dev.context = &hca->context;
	hca->device.node_type = IBV_NODE_CA;
	hca->device.transport_type = IBV_TRANSPORT_IB;
	snprintf(hca->device.name, sizeof(hca->device.name), "mlx5_%u", pf);
	snprintf(hca->device.dev_name, sizeof(hca->device.dev_name), "uverbs%u", pf);
	cx_sysfs_ib_path(pf, hca->device.ibdev_path, sizeof(hca->device.ibdev_path));
	hca->context.device = &hca->device;
	hca->context.num_comp_vectors = 1;
	hca->context.cmd_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (hca->context.cmd_fd < 0)
		return errno;
	ret = cx_event_init(hca);
	if (ret != 0)
		return ret;
	for (port = 0; port < CX_MAX_VPORTS; port++) {
		if (cx_config.far[pf][port][0] == '\0')
			continue;
		add_vport(&hca->dev, port);
		ret = cx_port_open(&hca->dev.vport[hca->dev.vports - 1], cx_config.far[pf][port]);
		if (ret != 0)
			return ret;
	}
	return 0;
}

static int
init_all(void)
{
	char message[256];
	uint32_t pf;
	int ret = cx_monitor_open();

	for (pf = 0; ret == 0 && pf < CX_PFS; pf++)
		if (cx_config.far[pf][0][0] != '\0') {
			ret = init_hca(pf);
			cx_pfs++;
		}
	if (ret == 0)
		ret = -cx_steering_start();
	if (ret == 0 && cx_fault_set(cx_config.faults, message, sizeof(message)) < 0)
		cx_die("CONNECTX: %s", message);
	return ret;
}

int
cx_hca_init(void)
{
	static bool done;
	static int result;

	pthread_mutex_lock(&lock);
	if (!done)
		result = init_all();
	done = true;
	pthread_mutex_unlock(&lock);
	return result;
}

/* ---- verbs ---- */

static int
fork_init(void)
{
	return 0;
}

static struct ibv_device **
get_device_list(int *n)
{
	struct ibv_device **list = calloc(CX_PFS + 1, sizeof(*list));
	uint32_t pf;
	int ret;

	if (list == NULL)
		return NULL;
	ret = cx_hca_init();
	if (ret != 0) {
		free(list);
		errno = ret;
		return NULL;
	}
	*n = 0;
	for (pf = 0; pf < CX_PFS; pf++)
		if (cx_hcas[pf].dev.vports > 0)
			list[(*n)++] = &cx_hcas[pf].device;
	return list;
}

static void
free_device_list(struct ibv_device **list)
{
	free(list);
}

static struct ibv_context *
open_device(struct ibv_device *device)
{
	struct cx_hca *hca = (struct cx_hca *)device;
	int ret;

	pthread_mutex_lock(&lock);
	ret = opened == 0 ? cx_thread_start() : 0;
	if (ret == 0)
		opened++;
	pthread_mutex_unlock(&lock);
	if (ret != 0) {
		errno = ret;
		return NULL;
	}
	return &hca->context;
}

static int
close_device(struct ibv_context *context)
{
	(void)context;
	pthread_mutex_lock(&lock);
	if (--opened == 0)
		cx_thread_stop();
	pthread_mutex_unlock(&lock);
	return 0;
}

static const char *
get_device_name(struct ibv_device *device)
{
	return device->name;
}

static int
query_device_ex(struct ibv_context *context, const struct ibv_query_device_ex_input *input,
		struct ibv_device_attr_ex *attr)
{
	const struct cx_dev *dev = cx_dev_of(context);

	(void)input;
	if (cx_hca_failed(dev)) {
		errno = EIO;
		return EIO;
	}
	memset(attr, 0, sizeof(*attr));
	snprintf(attr->orig_attr.fw_ver, sizeof(attr->orig_attr.fw_ver), "0.0.0");
	attr->orig_attr.max_qp_wr = 32768;
	attr->orig_attr.max_sge = 30;
	attr->orig_attr.max_cq = 1 << 24;
	attr->orig_attr.max_qp = 1 << 18;
	attr->orig_attr.phys_port_cnt = dev->vports;
	attr->phys_port_cnt_ex = dev->vports;
	attr->device_cap_flags_ex = IBV_DEVICE_RAW_IP_CSUM;
	attr->raw_packet_caps = IBV_RAW_PACKET_CAP_CVLAN_STRIPPING;
	attr->rss_caps.max_rwq_indirection_table_size = 2048;
	attr->tso_caps.max_tso = 262144;
	attr->tso_caps.supported_qpts = 1 << IBV_QPT_RAW_PACKET;
	return 0;
}

static int
query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	struct ibv_device_attr_ex ex;
	int ret = query_device_ex(context, NULL, &ex);

	if (ret == 0)
		*attr = ex.orig_attr;
	return ret;
}

static int
query_rt_values_ex(struct ibv_context *context, struct ibv_values_ex *values)
{
	(void)context;
	if (values->comp_mask != IBV_VALUES_MASK_RAW_CLOCK)
		return cx_refuse(ENOTSUP, "query_rt_values_ex of %#x", values->comp_mask);
	return clock_gettime(CLOCK_MONOTONIC_RAW, &values->raw_clock) < 0 ? errno : 0;
}

static bool
link_is_up(const struct cx_port *port)
{
	return load_relaxed(&port->far_carrier) && !load_relaxed(&port->link_down) &&
	       !load_relaxed(&port->far_stopped);
}

static int
query_port(struct ibv_context *context, uint8_t number, struct ibv_port_attr *attr)
{
	struct cx_vport *vport = cx_vport_by_ib_port(cx_dev_of(context), number);

	if (vport == NULL)
		return cx_refuse(EINVAL, "query_port of port %u, which does not exist", number);
	memset(attr, 0, sizeof(*attr));
	attr->state = link_is_up(cx_port_of(vport)) ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
	attr->link_layer = IBV_LINK_LAYER_ETHERNET;
	return 0;
}

static const char *
port_state_str(enum ibv_port_state state)
{
	return state == IBV_PORT_ACTIVE ? "active" : "down";
}

static int
dv_query_device(struct ibv_context *context, struct mlx5dv_context *attr)
{
	(void)context;
	/* Of what the driver asks for there is no striding RQ and no software parser. */
	attr->comp_mask &= MLX5DV_CONTEXT_MASK_TUNNEL_OFFLOADS;
	attr->flags = MLX5DV_CONTEXT_FLAGS_MPW_ALLOWED | MLX5DV_CONTEXT_FLAGS_ENHANCED_MPW;
	attr->tunnel_offloads_caps = MLX5DV_RAW_PACKET_CAP_TUNNELED_OFFLOAD_VXLAN |
				     MLX5DV_RAW_PACKET_CAP_TUNNELED_OFFLOAD_GRE;
	return 0;
}

/* The driver would have verbs allocate their memory in a way of its own; there are no queues of
 * verbs here. */
static int
dv_set_context_attr(struct ibv_context *context, enum mlx5dv_set_ctx_attr_type type, void *attr)
{
	(void)context;
	(void)attr;
	if (type != MLX5DV_CTX_ATTR_BUF_ALLOCATORS)
		return cx_refuse(ENOTSUP, "dv_set_context_attr of type %d", type);
	return 0;
}

static int
dv_init_obj(struct mlx5dv_obj *object, uint64_t type)
{
	if (type != MLX5DV_OBJ_PD)
		return cx_refuse(ENOTSUP, "dv_init_obj of type %#llx", (unsigned long long)type);
	object->pd.out->pdn = object->pd.in->handle;
	return 0;
}

static int
devx_port_query(struct ibv_context *context, uint32_t number, struct mlx5_port_info *info)
{
	const struct cx_vport *vport = cx_vport_by_ib_port(cx_dev_of(context), number);

	if (vport == NULL)
		return cx_refuse(EINVAL, "devx_port_query of port %u, which does not exist",
				 number);
	memset(info, 0, sizeof(*info));
	info->query_flags = MLX5_PORT_QUERY_VPORT | MLX5_PORT_QUERY_REG_C0;
	info->vport_id = vport->id;
	info->vport_meta_tag = vport->meta_tag;
	info->vport_meta_mask = CX_META_MASK;
	return 0;
}

/* Entries that nothing here needs: refused by name. */
#define REFUSE_POINTER(name)                                    \
	static void *no_##name(void)                            \
	{                                                       \
		errno = cx_refuse(ENOTSUP, "mlx5_glue." #name); \
		return NULL;                                    \
	}
#define REFUSE_NUMBER(name)                                     \
	static int no_##name(void)                              \
	{                                                       \
		errno = cx_refuse(ENOTSUP, "mlx5_glue." #name); \
		return errno;                                   \
	}

CX_REFUSED_POINTERS(REFUSE_POINTER)
CX_REFUSED_NUMBERS(REFUSE_NUMBER)

#define SET_REFUSED(name) .name = (void *)no_##name,

static struct mlx5_glue table = { .version = MLX5_GLUE_VERSION,
				  .fork_init = fork_init,
				  .get_device_list = get_device_list,
				  .free_device_list = free_device_list,
				  .open_device = open_device,
				  .dv_open_device = open_device,
				  .close_device = close_device,
				  .query_device = query_device,
				  .query_device_ex = query_device_ex,
				  .get_device_name = get_device_name,
				  .query_rt_values_ex = query_rt_values_ex,
				  .query_port = query_port,
				  .port_state_str = port_state_str,
				  .dv_query_device = dv_query_device,
				  .dv_set_context_attr = dv_set_context_attr,
				  .dv_init_obj = dv_init_obj,
				  .devx_port_query = devx_port_query,
				  CX_REFUSED_POINTERS(SET_REFUSED)
					  CX_REFUSED_NUMBERS(SET_REFUSED) };

/* The driver's own is in librte_common_mlx5; the first in the order of loading counts. */
const struct mlx5_glue *mlx5_glue = &table;

/* ---- netlink: what the kernel's rdma and switchdev drivers would answer; all else the driver's
 * own functions ask it ---- */

/* There are no sockets of the rdma family; the driver only keeps this one. */
int
mlx5_nl_init(int protocol, int groups)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd;

	if (protocol == NETLINK_RDMA)
		return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static struct cx_dev *
dev_by_name(const char *name)
{
	uint32_t pf;

	for (pf = 0; pf < CX_PFS; pf++)
		if (strcmp(cx_hcas[pf].device.name, name) == 0)
			return &cx_hcas[pf].dev;
	cx_refuse(ENODEV, "netlink: there is no IB device %s", name);
	return NULL;
}

/* Since 25.03 the driver also hands in where it keeps answers, which is left empty. */
#if RTE_VERSION >= RTE_VERSION_NUM(25, 3, 0, 0)
#define CACHE , struct mlx5_dev_info *cache __rte_unused
#else
#define CACHE
#endif

unsigned int
mlx5_nl_portnum(int nl, const char *name CACHE)
{
	const struct cx_dev *dev = dev_by_name(name);

	(void)nl;
	return dev == NULL ? 0 : dev->vports;
}

unsigned int
mlx5_nl_ifindex(int nl, const char *name, uint32_t number CACHE)
{
	struct cx_dev *dev = dev_by_name(name);
	const struct cx_vport *vport = dev == NULL ? NULL : cx_vport_by_ib_port(dev, number);

	(void)nl;
	return vport == NULL ? 0 : cx_port_of(vport)->twin_ifindex;
}

int
mlx5_nl_port_state(int nl, const char *name, uint32_t number CACHE)
{
	struct cx_dev *dev = dev_by_name(name);
	const struct cx_vport *vport = dev == NULL ? NULL : cx_vport_by_ib_port(dev, number);

	(void)nl;
	if (vport == NULL)
		return -EINVAL;
	return link_is_up(cx_port_of(vport)) ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
}

/* What a netdev is to the switch: phys_port_name and phys_switch_id. A PF in legacy mode has no
 * switch. */
int
mlx5_nl_switch_info(int nl, unsigned int ifindex, struct mlx5_switch_info *info)
{
	const struct cx_port *port;
	uint32_t n;

	(void)nl;
	memset(info, 0, sizeof(*info));
	for (n = 0; (port = cx_port_at(n)) != NULL; n++) {
		if (port->twin_ifindex != ifindex)
			continue;
		if (port->vport->id != CX_VPORT_UPLINK) {
			info->representor = 1;
			info->name_type = MLX5_PHYS_PORT_NAME_TYPE_PFVF;
			info->port_name = port->vport->id - 1;
		} else {
			info->name_type = MLX5_PHYS_PORT_NAME_TYPE_UPLINK;
			info->port_name = port->vport->dev->pf;
			info->master = port->vport->dev->pf == 0;
		}
		info->switch_id = port->vport->dev->pf == 0 ? SWITCH_ID : 0;
		return 0;
	}
	return -ENODEV;
}

/*
 * A VF's address is what its guest has; there is no way to it from here. At each start of a port
 * ethdev sets the address that it has already.
 */
int
mlx5_nl_vf_mac_addr_modify(int nl, unsigned int pf_ifindex, struct rte_ether_addr *mac, int vf)
{
	const struct cx_vport *vport = cx_vport_by_id(&cx_hcas[0].dev, vf + 1);

	(void)nl;
	(void)pf_ifindex;
	if (vport != NULL && memcmp(cx_port_of(vport)->mac, mac, sizeof(*mac)) == 0)
		return 0;
	return -cx_refuse(ENOTSUP, "netlink: another MAC address for VF %d", vf);
}

int
mlx5_nl_get_mtu_bounds(int nl, unsigned int ifindex, uint16_t *min, uint16_t *max)
{
	(void)nl;
	(void)ifindex;
	*min = MIN_MTU;
	*max = MAX_MTU;
	return 0;
}

/* ---- the library ---- */

static void
fill_table(void)
{
	void *entry;
	size_t at;

	cx_memory_glue(&table);
	cx_devx_glue(&table);
	cx_event_glue(&table);
	cx_steering_glue(&table);
	for (at = sizeof(table.version); at < sizeof(table); at += sizeof(entry)) {
		memcpy(&entry, (char *)&table + at, sizeof(entry));
		if (entry == NULL)
			cx_die("entry %zu of mlx5_glue is missing: another version of DPDK?",
			       at / sizeof(entry));
	}
}

__attribute__((constructor)) static void
load(void)
{
	const char *text = getenv("CONNECTX");

	if (text == NULL)
		cx_die("the environment variable CONNECTX is not set: card=cx5|cx6dx|cx7,pf0=NETDEV,pf1=NETDEV,vf0=NETDEV,...");
	cx_config_parse(text);
	fill_table();
	cx_sysfs_create();
}

__attribute__((destructor)) static void
unload(void)
{
	cx_ports_close();
	cx_sysfs_remove();
}
