/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CX_REFUSED_H
#define CX_REFUSED_H

#include <rte_version.h>

/* Entries of mlx5_glue that nothing here needs, by what they return. */

#if RTE_VERSION >= RTE_VERSION_NUM(23, 7, 0, 0)
#define CX_REFUSED_ANCHOR_POINTERS(x) x(create_steering_anchor)
#define CX_REFUSED_ANCHOR_NUMBERS(x) x(destroy_steering_anchor)
#else
#define CX_REFUSED_ANCHOR_POINTERS(x)
#define CX_REFUSED_ANCHOR_NUMBERS(x)
#endif

#define CX_REFUSED_POINTERS(x)                                                                     \
	CX_REFUSED_ANCHOR_POINTERS(x)                                                              \
	x(import_pd) x(import_device) x(create_comp_channel) x(create_cq) x(create_rwq_ind_table)  \
		x(create_wq) x(create_flow) x(create_qp) x(create_qp_ex) x(alloc_null_mr)          \
			x(create_counter_set) x(create_counters) x(cq_ex_to_cq) x(dv_create_cq) x( \
				dv_create_wq) x(dv_create_qp) x(dv_create_flow_matcher_root)       \
				x(dv_create_flow_root) x(dv_create_flow_action_modify_header_root) \
					x(dv_create_flow_action_packet_reformat_root)              \
						x(dv_alloc_var) x(dv_alloc_pp)

/* Those that return a number, or nothing. */
#define CX_REFUSED_NUMBERS(x)                                                                     \
	CX_REFUSED_ANCHOR_NUMBERS(x)                                                              \
	x(unimport_pd) x(destroy_comp_channel) x(destroy_cq) x(get_cq_event)                      \
		x(destroy_rwq_ind_table) x(destroy_wq) x(modify_wq) x(destroy_flow) x(destroy_qp) \
			x(modify_qp) x(destroy_counter_set) x(describe_counter_set)               \
				x(query_counter_set) x(destroy_counters) x(attach_counters)       \
					x(query_counters) x(dv_destroy_flow_matcher_root)         \
						x(devx_qp_query) x(devx_wq_query)                 \
							x(devx_subscribe_devx_event_fd)           \
								x(ack_cq_events) x(dv_free_var)   \
									x(dv_free_pp)

#endif
