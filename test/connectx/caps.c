/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the card says that it can do (QUERY_HCA_CAP), in the fields that
 * mlx5_devx_cmd_query_hca_attr of the driver reads. A field that is not set here is 0: not offered,
 * or not carried out by this card. The comments say what the driver does with a field.
 */

#include <errno.h>

#include "mlx5_glue.h"
#include "mlx5_prm.h"
#include "mlx5_common.h"

#include "device.h"

static void
set_general(const struct cx_profile *p, void *caps)
{
	uint64_t objects = 0;

	/* Ages by ASO (mlx5_flow_aso_age_mng_init); without, the driver looks at counters. */
	if (p->flow_hit_aso)
		objects |= MLX5_GENERAL_OBJ_TYPES_CAP_FLOW_HIT_ASO;
	/* Made at the probe; rules with them are refused by this card. */
	if (p->meter_aso)
		objects |= MLX5_GENERAL_OBJ_TYPES_CAP_FLOW_METER_ASO;
	if (p->ct_aso)
		objects |= MLX5_GENERAL_OBJ_TYPES_CAP_CONN_TRACK_OFFLOAD;
	MLX5_SET64(cmd_hca_cap, caps, general_obj_types, objects);

	/* Limits of queues: mlx5_dev_infos_get, mlx5_txq_devx_obj_new (max_wqe_sz_sq bounds
	 * inlining). */
	MLX5_SET(cmd_hca_cap, caps, max_wqe_sz_sq, 1024);
	MLX5_SET(cmd_hca_cap, caps, log_max_cq, 24);
	MLX5_SET(cmd_hca_cap, caps, log_max_cq_sz, 22);
	MLX5_SET(cmd_hca_cap, caps, log_max_qp, 18);
	MLX5_SET(cmd_hca_cap, caps, log_max_qp_sz, 15);
	MLX5_SET(cmd_hca_cap, caps, log_max_wq_sz, 15);
	MLX5_SET(cmd_hca_cap, caps, log_max_mrw_sz, 36);
	MLX5_SET(cmd_hca_cap, caps, log_max_pd, 24);
	MLX5_SET(cmd_hca_cap, caps, log_max_rqt_size, 11);

	/* Flow counters in bulks of 128 to 128 * 128 (mlx5_flow_counter_mode_config). */
	MLX5_SET(cmd_hca_cap, caps, flow_counter_bulk_alloc, 0xff);
	MLX5_SET(cmd_hca_cap, caps, flow_counters_dump, 1);
	MLX5_SET(cmd_hca_cap, caps, max_flow_counter_15_0, 0xffff);
	MLX5_SET(cmd_hca_cap, caps, max_flow_counter_31_16, 0xff);

	/* Without it there is no dv_esw_en (mlx5_os_capabilities_prepare). PF1 has an E-Switch,
	 * too, but in legacy mode. */
	MLX5_SET(cmd_hca_cap, caps, eswitch_manager, 1);
	MLX5_SET(cmd_hca_cap, caps, eth_net_offloads, 1);
	MLX5_SET(cmd_hca_cap, caps, eth_virt, 1);
	MLX5_SET(cmd_hca_cap, caps, nic_flow_table, 1);
	MLX5_SET(cmd_hca_cap, caps, qos, 1);
	MLX5_SET(cmd_hca_cap, caps, device_frequency_khz, 1000000);

	/* How rules are written (mlx5_flow_dv.c): 0 ConnectX-5, 1 ConnectX-6 Dx, 2 ConnectX-7. */
	MLX5_SET(cmd_hca_cap, caps, steering_format_version, p->steering_format);
	/* Whether a tag that the switch has set is there in the NIC's rules (flow_dv_translate_*,
	 * mlx5_flow_ext_mreg_supported). */
	MLX5_SET(cmd_hca_cap, caps, reg_c_preserve, p->reg_c_preserve);
	/* Flex parsers that firmware has by default: GENEVE (3), VXLAN-GPE (7), ICMP (8), ICMPv6
	 * (9). Rules with ICMP need theirs. */
	MLX5_SET(cmd_hca_cap, caps, flex_parser_protocols, 1u << 3 | 1u << 7 | 1u << 8 | 1u << 9);
}

/* Meters are refused; but their register, reg_c_3, is also that of flow-hit ASO (mtr_color_reg in
 * mlx5_dev_spawn). */
static void
set_qos(void *caps)
{
	MLX5_SET(qos_cap, caps, flow_meter_old, 1);
	MLX5_SET(qos_cap, caps, flow_meter, 1);
	MLX5_SET(qos_cap, caps, log_max_flow_meter, 12);
	MLX5_SET(qos_cap, caps, flow_meter_reg_id, 0x3c);
	MLX5_SET(qos_cap, caps, log_meter_aso_granularity, 5);
	MLX5_SET(qos_cap, caps, log_meter_aso_max_alloc, 12);
	MLX5_SET(qos_cap, caps, log_max_num_meter_aso, 20);
}

static void
set_nic_tables(const struct cx_profile *p, void *caps)
{
	bool new = p->steering_format > 0;

	/* rte_flow's sample (sampler_en in mlx5_dev_spawn). */
	MLX5_SET(flow_table_nic_cap, caps, flow_table_properties_nic_receive.log_max_ft_sampler_num,
		 16);
	/* Matching a tunnel's header as it is, IPv4's header length. */
	MLX5_SET(flow_table_nic_cap, caps, ft_field_support_2_nic_receive.tunnel_header_0_1, new);
	MLX5_SET(flow_table_nic_cap, caps, ft_field_support_2_nic_receive.outer_ipv4_ihl, new);
	MLX5_SET(flow_table_nic_cap, caps, ft_field_support_2_nic_receive.inner_ipv4_ihl, new);
	/* The registers reg_c_0 to 7, which hold tags (attr->set_reg_c). */
	MLX5_SET(flow_table_nic_cap, caps, ft_header_modify_nic_receive.metadata_reg_c_x, 0xff);
	MLX5_SET(flow_table_nic_cap, caps, ft_header_modify_nic_transmit.metadata_reg_c_x, 0xff);
}

static void
set_ethernet(void *caps)
{
	MLX5_SET(per_protocol_networking_offload_caps, caps, csum_cap, 1);
	MLX5_SET(per_protocol_networking_offload_caps, caps, vlan_cap, 1);
	MLX5_SET(per_protocol_networking_offload_caps, caps, wqe_vlan_insert, 1);
	MLX5_SET(per_protocol_networking_offload_caps, caps, max_lso_cap, 18);
	MLX5_SET(per_protocol_networking_offload_caps, caps, rss_ind_tbl_cap, 11);
	MLX5_SET(per_protocol_networking_offload_caps, caps, tunnel_stateless_vxlan, 1);
	/* No header has to be inlined in entries of send queues (mlx5_set_min_inline). */
	MLX5_SET(per_protocol_networking_offload_caps, caps, wqe_inline_mode,
		 MLX5_CAP_INLINE_MODE_NOT_REQUIRED);
}

void
cx_caps_query(const struct cx_dev *dev, uint32_t what, void *out)
{
	void *caps = MLX5_ADDR_OF(query_hca_cap_out, out, capability);

	switch (what & ~(uint32_t)MLX5_HCA_CAP_OPMOD_GET_CUR) {
	case MLX5_GET_HCA_CAP_OP_MOD_GENERAL_DEVICE:
		set_general(dev->profile, caps);
		break;
	case MLX5_GET_HCA_CAP_OP_MOD_QOS_CAP:
		set_qos(caps);
		break;
	case MLX5_GET_HCA_CAP_OP_MOD_NIC_FLOW_TABLE:
		set_nic_tables(dev->profile, caps);
		break;
	case MLX5_GET_HCA_CAP_OP_MOD_ETHERNET_OFFLOAD_CAPS:
		set_ethernet(caps);
		break;
	case MLX5_SET_HCA_CAP_OP_MOD_ESW:
		/* The vport that send queues are behind (flow_dv_get_esw_manager_vport_id). */
		MLX5_SET(esw_cap, caps, esw_manager_vport_number_valid, 1);
		MLX5_SET(esw_cap, caps, esw_manager_vport_number, CX_VPORT_MANAGER);
		break;
	case MLX5_GET_HCA_CAP_OP_MOD_ESW_FLOW_TABLE:
		MLX5_SET(flow_table_esw_cap, caps, ft_header_modify_esw_fdb.metadata_reg_c_x, 0xff);
		break;
	default:
		cx_refuse(ENOTSUP, "QUERY_HCA_CAP of %#x: all are said to be 0", what);
	}
}
