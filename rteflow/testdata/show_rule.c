/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a driver gets to see of a rule. Linked with -Wl,--wrap=rte_flow_validate
 * so that rf_validate() calls the function below, which prints the rule field
 * by field and refuses it for a cause of the test's choice.
 *
 * Each line of the input is "CAUSE HEX": the rule's memory, and the culprit:
 *   -     none       i1 item 1       s1 its spec     m1 its mask    l1 its last
 *   a2    action 2   c2 its conf     n2 the second action of sample 2
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_flow.h>

#include "../compat.h"
#include "../flow.h"

static char cause[16];

int __wrap_rte_flow_validate(uint16_t port, const struct rte_flow_attr *attr,
			     const struct rte_flow_item items[],
			     const struct rte_flow_action actions[], struct rte_flow_error *error);

static void
show_hex(const char *name, const void *data, size_t size)
{
	const uint8_t *b = data;
	size_t i;

	printf(" %s=", name);
	for (i = 0; i < size; i++)
		printf("%02x", b[i]);
}

static void
show_eth(const struct rte_flow_item_eth *eth)
{
	show_hex("dst", &eth->hdr.dst_addr, 6);
	show_hex("src", &eth->hdr.src_addr, 6);
	printf(" type=%04x vlan=%u", rte_be_to_cpu_16(eth->hdr.ether_type),
	       eth->has_vlan | eth->reserved);
}

static void
show_ipv4(const struct rte_flow_item_ipv4 *ip)
{
	printf(" version_ihl=%u tos=%u len=%u id=%u frag=%04x ttl=%u proto=%u sum=%u",
	       ip->hdr.version_ihl, ip->hdr.type_of_service, ip->hdr.total_length,
	       ip->hdr.packet_id, rte_be_to_cpu_16(ip->hdr.fragment_offset), ip->hdr.time_to_live,
	       ip->hdr.next_proto_id, ip->hdr.hdr_checksum);
	show_hex("src", &ip->hdr.src_addr, 4);
	show_hex("dst", &ip->hdr.dst_addr, 4);
}

static void
show_ipv6(const struct rte_flow_item_ipv6 *ip)
{
	printf(" vtc_flow=%u len=%u proto=%u hop=%u", ip->hdr.vtc_flow, ip->hdr.payload_len,
	       ip->hdr.proto, ip->hdr.hop_limits);
	show_hex("src", &ip->hdr.src_addr, 16);
	show_hex("dst", &ip->hdr.dst_addr, 16);
	printf(" ext=%u", ip->has_hop_ext | ip->has_route_ext | ip->has_frag_ext | ip->reserved);
}

static void
show_tcp(const struct rte_flow_item_tcp *tcp)
{
	printf(" src=%u dst=%u off=%u flags=%02x win=%u", rte_be_to_cpu_16(tcp->hdr.src_port),
	       rte_be_to_cpu_16(tcp->hdr.dst_port), tcp->hdr.data_off, tcp->hdr.tcp_flags,
	       tcp->hdr.rx_win);
}

static void
show_struct(enum rte_flow_item_type type, const void *p)
{
	const struct rte_flow_item_udp *udp = p;
	const struct rte_flow_item_icmp *icmp = p;
	const struct rte_flow_item_icmp6 *icmp6 = p;
	const struct rte_flow_item_vlan *vlan = p;
	const struct rte_flow_item_vxlan *vxlan = p;
	const struct rte_flow_item_mark *mark = p;
	const struct rte_flow_item_tag *tag = p;
	const struct rte_flow_item_meta *meta = p;
	const struct rte_flow_item_ethdev *ethdev = p;
	const struct rte_flow_item_port_id *port = p;

	switch (type) {
	case RTE_FLOW_ITEM_TYPE_ETH:
		show_eth(p);
		break;
	case RTE_FLOW_ITEM_TYPE_IPV4:
		show_ipv4(p);
		break;
	case RTE_FLOW_ITEM_TYPE_IPV6:
		show_ipv6(p);
		break;
	case RTE_FLOW_ITEM_TYPE_TCP:
		show_tcp(p);
		break;
	case RTE_FLOW_ITEM_TYPE_UDP:
		printf(" src=%u dst=%u", rte_be_to_cpu_16(udp->hdr.src_port),
		       rte_be_to_cpu_16(udp->hdr.dst_port));
		break;
	case RTE_FLOW_ITEM_TYPE_ICMP:
		printf(" type=%u code=%u ident=%u", icmp->hdr.icmp_type, icmp->hdr.icmp_code,
		       rte_be_to_cpu_16(icmp->hdr.icmp_ident));
		break;
	case RTE_FLOW_ITEM_TYPE_ICMP6:
		printf(" type=%u code=%u", icmp6->type, icmp6->code);
		break;
	case RTE_FLOW_ITEM_TYPE_VLAN:
		printf(" tci=%04x inner=%04x more=%u", rte_be_to_cpu_16(vlan->hdr.vlan_tci),
		       rte_be_to_cpu_16(vlan->hdr.eth_proto), vlan->has_more_vlan | vlan->reserved);
		break;
	case RTE_FLOW_ITEM_TYPE_VXLAN:
		printf(" flags=%02x", vxlan->flags);
		show_hex("vni", vxlan->vni, sizeof(vxlan->vni));
		printf(" reserved=%u",
		       vxlan->rsvd0[0] | vxlan->rsvd0[1] | vxlan->rsvd0[2] | vxlan->rsvd1);
		break;
	case RTE_FLOW_ITEM_TYPE_MARK:
		printf(" id=%u", mark->id);
		break;
	case RTE_FLOW_ITEM_TYPE_TAG:
		printf(" data=%u index=%u", tag->data, tag->index);
		break;
	case RTE_FLOW_ITEM_TYPE_META:
		printf(" data=%u", meta->data);
		break;
	case RTE_FLOW_ITEM_TYPE_REPRESENTED_PORT:
		printf(" port=%u", ethdev->port_id);
		break;
	case RTE_FLOW_ITEM_TYPE_PORT_ID:
		printf(" port=%u", port->id);
		break;
	default:
		printf(" ?");
	}
}

static void
show_part(const char *name, enum rte_flow_item_type type, const void *p)
{
	if (p == NULL)
		return;
	printf("  %s", name);
	show_struct(type, p);
	printf("\n");
}

static void
show_item(const struct rte_flow_item *item)
{
	const char *name = "?";

	if (rte_flow_conv(RTE_FLOW_CONV_OP_ITEM_NAME_PTR, &name, sizeof(name),
			  (const void *)(uintptr_t)item->type, NULL) < 0)
		name = "?";
	printf(" item %s\n", name);
	show_part("spec", item->type, item->spec);
	show_part("mask", item->type, item->mask);
	show_part("last", item->type, item->last);
}

static void
show_conf(const struct rte_flow_action *action)
{
	const struct rte_flow_action_jump *jump = action->conf;
	const struct rte_flow_action_age *age = action->conf;
	const struct rte_flow_action_queue *queue = action->conf;
	const struct rte_flow_action_count *count = action->conf;
	const struct rte_flow_action_ethdev *ethdev = action->conf;
	const struct rte_flow_action_port_id *port = action->conf;
	const struct rte_flow_action_raw_encap *encap = action->conf;
	const struct rte_flow_action_raw_decap *decap = action->conf;
	const struct rte_flow_action_sample *sample = action->conf;
	const struct rte_flow_action_set_tp *tp = action->conf;
	const struct rte_flow_action_of_push_vlan *vlan = action->conf;
	const struct rte_flow_action_mark *mark = action->conf;
	const struct rte_flow_action_set_tag *tag = action->conf;
	const struct rte_flow_action_set_meta *meta = action->conf;

	switch (action->type) {
	case RTE_FLOW_ACTION_TYPE_JUMP:
		printf(" group=%u", jump->group);
		break;
	case RTE_FLOW_ACTION_TYPE_AGE:
		printf(" timeout=%u reserved=%u context=%" PRIx64, age->timeout, age->reserved,
		       (uint64_t)(uintptr_t)age->context);
		break;
	case RTE_FLOW_ACTION_TYPE_QUEUE:
		printf(" index=%u", queue->index);
		break;
	case RTE_FLOW_ACTION_TYPE_COUNT:
		printf(" id=%u", count->id);
		break;
	case RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT:
		printf(" port=%u", ethdev->port_id);
		break;
	case RTE_FLOW_ACTION_TYPE_PORT_ID:
		printf(" port=%u original=%u", port->id, port->original);
		break;
	case RTE_FLOW_ACTION_TYPE_SET_MAC_SRC:
	case RTE_FLOW_ACTION_TYPE_SET_MAC_DST:
		show_hex("mac", action->conf, 6);
		break;
	case RTE_FLOW_ACTION_TYPE_SET_IPV4_SRC:
	case RTE_FLOW_ACTION_TYPE_SET_IPV4_DST:
		show_hex("addr", action->conf, 4);
		break;
	case RTE_FLOW_ACTION_TYPE_SET_IPV6_SRC:
	case RTE_FLOW_ACTION_TYPE_SET_IPV6_DST:
		show_hex("addr", action->conf, 16);
		break;
	case RTE_FLOW_ACTION_TYPE_SET_TP_SRC:
	case RTE_FLOW_ACTION_TYPE_SET_TP_DST:
		printf(" port=%u", rte_be_to_cpu_16(tp->port));
		break;
	case RTE_FLOW_ACTION_TYPE_OF_PUSH_VLAN:
		printf(" type=%04x", rte_be_to_cpu_16(vlan->ethertype));
		break;
	case RTE_FLOW_ACTION_TYPE_MARK:
		printf(" id=%u", mark->id);
		break;
	case RTE_FLOW_ACTION_TYPE_SET_TAG:
		printf(" data=%u mask=%u index=%u", tag->data, tag->mask, tag->index);
		break;
	case RTE_FLOW_ACTION_TYPE_SET_META:
		printf(" data=%u mask=%u", meta->data, meta->mask);
		break;
	case RTE_FLOW_ACTION_TYPE_INDIRECT:
		printf(" handle=%" PRIxPTR, (uintptr_t)action->conf);
		break;
	case RTE_FLOW_ACTION_TYPE_RAW_ENCAP:
		printf(" preserve=%d", encap->preserve != NULL);
		show_hex("data", encap->data, encap->size);
		break;
	case RTE_FLOW_ACTION_TYPE_RAW_DECAP:
		show_hex("data", decap->data, decap->size);
		break;
	case RTE_FLOW_ACTION_TYPE_SAMPLE:
		printf(" ratio=%u", sample->ratio);
		break;
	default:
		printf(" conf=%d", action->conf != NULL);
	}
}

static void
show_actions(const char *indent, const struct rte_flow_action *actions)
{
	const struct rte_flow_action *a;
	const char *name;

	for (a = actions; a->type != RTE_FLOW_ACTION_TYPE_END; a++) {
		name = "?";
		if (rte_flow_conv(RTE_FLOW_CONV_OP_ACTION_NAME_PTR, &name, sizeof(name),
				  (const void *)(uintptr_t)a->type, NULL) < 0)
			name = "?";
		printf("%saction %s", indent, name);
		show_conf(a);
		printf("\n");
		if (a->type == RTE_FLOW_ACTION_TYPE_SAMPLE)
			show_actions("  ",
				     ((const struct rte_flow_action_sample *)a->conf)->actions);
	}
}

static const void *
culprit(const struct rte_flow_item *items, const struct rte_flow_action *actions)
{
	int n = cause[0] != '\0' ? atoi(cause + 1) : 0;
	const struct rte_flow_action_sample *sample;

	switch (cause[0]) {
	case 'i':
		return &items[n];
	case 's':
		return items[n].spec;
	case 'm':
		return items[n].mask;
	case 'l':
		return items[n].last;
	case 'a':
		return &actions[n];
	case 'c':
		return actions[n].conf;
	case 'n':
		sample = actions[n].conf;
		return &sample->actions[1];
	default:
		return NULL;
	}
}

int
__wrap_rte_flow_validate(uint16_t port, const struct rte_flow_attr *attr,
			 const struct rte_flow_item items[], const struct rte_flow_action actions[],
			 struct rte_flow_error *error)
{
	const struct rte_flow_item *item;

	printf("port=%u group=%u priority=%u ingress=%u egress=%u transfer=%u\n", port, attr->group,
	       attr->priority, attr->ingress, attr->egress, attr->transfer);
	for (item = items; item->type != RTE_FLOW_ITEM_TYPE_END; item++)
		show_item(item);
	show_actions(" ", actions);
	return rte_flow_error_set(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_ITEM, culprit(items, actions),
				  "refused");
}

static size_t
unhex(const char *hex, uint8_t *bytes, size_t size)
{
	size_t n = 0;

	while (n < size && sscanf(hex + 2 * n, "%2hhx", &bytes[n]) == 1)
		n++;
	return n;
}

int
main(void)
{
	static char line[65536], hex[65536];
	struct rf_error err;
	uint8_t *bytes;
	size_t len;
	int rc;

	while (fgets(line, sizeof(line), stdin) != NULL) {
		hex[0] = '\0';
		if (sscanf(line, "%15s %65535s", cause, hex) < 1)
			return 1;
		len = strlen(hex) / 2;
		bytes = malloc(len + 1); /* exact, for the address sanitizer */
		if (bytes == NULL || unhex(hex, bytes, len) != len)
			return 1;
		rc = rf_validate(7, bytes, len, &err);
		printf("rc=%d type=%d cause=%d index=%d sub=%d %s\n.\n", rc, err.type, err.cause,
		       err.index, err.sub, err.message);
		free(bytes);
	}
	return 0;
}
