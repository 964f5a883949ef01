/* SPDX-License-Identifier: Apache-2.0 */
#include "tables.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_debug.h>
#include <rte_errno.h>
#include <rte_ip.h>
#include <rte_malloc.h>

#include "flow_key.h"
#include "martian.h"

#define HOP_LIMIT 64

/* An address, or a prefix, in a virtual network. */
struct addr_key {
	uint32_t vni;
	uint8_t is_ipv6;
	uint8_t len;
	uint8_t zero[2];
	uint8_t addr[16];
};

static struct rte_hash *
table_create(const char *what, unsigned int lcore, uint32_t entries, uint32_t key_len)
{
	char name[RTE_HASH_NAMESIZE];
	struct rte_hash_parameters params = {
		.name = name,
		.entries = entries,
		.key_len = key_len,
		.socket_id = SOCKET_ID_ANY,
		/* an insertion fails only when all entries are taken */
		.extra_flag = RTE_HASH_EXTRA_FLAGS_EXT_TABLE,
	};

	snprintf(name, sizeof(name), "dp_%s_%u", what, lcore);
	return rte_hash_create(&params);
}

int
dps_tables_create(struct worker *w)
{
	w->ifaces = rte_zmalloc("ifaces", MAX_IFACES * sizeof(*w->ifaces), RTE_CACHE_LINE_SIZE);
	w->next_hops =
		rte_zmalloc("next_hops", MAX_ROUTES * sizeof(*w->next_hops), RTE_CACHE_LINE_SIZE);
	w->tunnels = rte_zmalloc("tunnels", MAX_TUNNELS * sizeof(*w->tunnels), RTE_CACHE_LINE_SIZE);
	if (w->ifaces == NULL || w->next_hops == NULL || w->tunnels == NULL)
		return -ENOMEM;
	w->addr_hash = table_create("addr", w->lcore, 2 * MAX_IFACES, sizeof(struct addr_key));
	if (w->addr_hash == NULL)
		return -rte_errno;
	w->underlay_hash = table_create("underlay", w->lcore, MAX_IFACES, 16);
	if (w->underlay_hash == NULL)
		return -rte_errno;
	w->route_hash = table_create("route", w->lcore, MAX_ROUTES, sizeof(struct addr_key));
	if (w->route_hash == NULL)
		return -rte_errno;
	return 0;
}

void
dps_tables_free(struct worker *w)
{
	rte_hash_free(w->route_hash);
	rte_hash_free(w->underlay_hash);
	rte_hash_free(w->addr_hash);
	rte_free(w->tunnels);
	rte_free(w->next_hops);
	rte_free(w->ifaces);
}

static struct addr_key
addr_key(uint32_t vni, bool is_ipv6, uint8_t len, const uint8_t *addr)
{
	struct addr_key key = { .vni = vni, .is_ipv6 = is_ipv6, .len = len };

	memcpy(key.addr, addr, is_ipv6 ? 16 : 4);
	return key;
}

/* The interface that a hash holds for key, or NULL. */
static struct iface *
iface_find(const struct worker *w, const struct rte_hash *hash, const void *key)
{
	void *data;

	if (rte_hash_lookup_data(hash, key, &data) < 0)
		return NULL;
	return &w->ifaces[(uintptr_t)data];
}

static struct iface *
iface_by_addr(const struct worker *w, uint32_t vni, bool is_ipv6, const uint8_t *addr)
{
	struct addr_key key = addr_key(vni, is_ipv6, is_ipv6 ? 128 : 32, addr);

	return iface_find(w, w->addr_hash, &key);
}

static bool
is_other(const struct iface *found, uint16_t index)
{
	return found != NULL && found->index != index;
}

int
dps_iface_check(const struct worker *w, const struct iface *conf)
{
	const struct port_state *port;

	if (conf->index >= MAX_IFACES || conf->vni == 0 || conf->port >= RTE_MAX_ETHPORTS)
		return -EINVAL;
	port = &w->ports[conf->port];
	if (port->slot == NO_SLOT || !port->vf)
		return -EINVAL;
	if (port->iface != NO_IFACE && port->iface != conf->index)
		return -EEXIST;
	if (is_other(iface_find(w, w->underlay_hash, conf->underlay), conf->index))
		return -EEXIST;
	if (conf->has_ipv4 && is_other(iface_by_addr(w, conf->vni, false, conf->ipv4), conf->index))
		return -EEXIST;
	if (conf->has_ipv6 && is_other(iface_by_addr(w, conf->vni, true, conf->ipv6), conf->index))
		return -EEXIST;
	return 0;
}

static void
iface_unlink(struct worker *w, struct iface *i)
{
	struct addr_key ipv4 = addr_key(i->vni, false, 32, i->ipv4);
	struct addr_key ipv6 = addr_key(i->vni, true, 128, i->ipv6);

	if (i->has_ipv4)
		rte_hash_del_key(w->addr_hash, &ipv4);
	if (i->has_ipv6)
		rte_hash_del_key(w->addr_hash, &ipv6);
	rte_hash_del_key(w->underlay_hash, i->underlay);
	w->ports[i->port].iface = NO_IFACE;
	memset(i, 0, sizeof(*i));
}

/* The hashes have a place for every interface's addresses, and grow on collisions without
 * allocating. */
static void
iface_link(struct worker *w, const struct iface *conf)
{
	struct addr_key ipv4 = addr_key(conf->vni, false, 32, conf->ipv4);
	struct addr_key ipv6 = addr_key(conf->vni, true, 128, conf->ipv6);
	void *index = (void *)(uintptr_t)conf->index;

	w->ifaces[conf->index] = *conf;
	w->ports[conf->port].iface = conf->index;
	w->ports[conf->port].mac = conf->gateway_mac;
	w->ports[conf->port].guest_mac = conf->guest_mac;
	RTE_VERIFY(rte_hash_add_key_data(w->underlay_hash, conf->underlay, index) == 0);
	RTE_VERIFY(!conf->has_ipv4 || rte_hash_add_key_data(w->addr_hash, &ipv4, index) == 0);
	RTE_VERIFY(!conf->has_ipv6 || rte_hash_add_key_data(w->addr_hash, &ipv6, index) == 0);
}

void
dps_iface_set(struct worker *w, const struct iface *conf)
{
	struct iface *cur = &w->ifaces[conf->index];

	if (cur->vni != 0)
		iface_unlink(w, cur);
	iface_link(w, conf);
}

/* What the NIC has decapsulated by them, and is on its way, is nobody's any more. */
static void
tunnels_clear(struct worker *w, uint16_t iface)
{
	uint32_t i;

	for (i = 0; i < MAX_TUNNELS; i++)
		if (w->tunnels[i].iface == iface)
			w->tunnels[i].used = false;
}

int
dps_tunnel_check(const struct worker *w, const struct tunnel *t)
{
	const struct iface *i = iface_find(w, w->underlay_hash, t->underlay);

	return i == NULL || i->index != t->iface ? -ENOENT : 0;
}

void
dps_tunnel_set(struct worker *w, const struct tunnel *t)
{
	w->tunnels[t->mark] = *t;
	w->tunnels[t->mark].used = true;
}

int
dps_iface_check_delete(const struct worker *w, uint16_t index)
{
	return index >= MAX_IFACES || w->ifaces[index].vni == 0 ? -ENOENT : 0;
}

void
dps_iface_delete(struct worker *w, uint16_t index)
{
	iface_unlink(w, &w->ifaces[index]);
	tunnels_clear(w, index);
}

static bool
route_is_valid(const struct route *r)
{
	return r->vni != 0 && r->len <= (r->is_ipv6 ? 128 : 32);
}

static bool
route_is_there(const struct worker *w, const struct route *r)
{
	struct addr_key key = addr_key(r->vni, r->is_ipv6, r->len, r->addr);

	return rte_hash_lookup(w->route_hash, &key) >= 0;
}

int
dps_route_check_add(const struct worker *w, const struct route *r)
{
	if (!route_is_valid(r))
		return -EINVAL;
	if (route_is_there(w, r))
		return -EEXIST;
	return rte_hash_count(w->route_hash) == MAX_ROUTES ? -ENOSPC : 0;
}

void
dps_route_add(struct worker *w, const struct route *r)
{
	struct addr_key key = addr_key(r->vni, r->is_ipv6, r->len, r->addr);
	int32_t pos = rte_hash_add_key(w->route_hash, &key);

	RTE_VERIFY(pos >= 0);
	memcpy(w->next_hops[pos], r->next_hop, 16);
	w->route_lens[r->is_ipv6][r->len]++;
}

int
dps_route_check_delete(const struct worker *w, const struct route *r)
{
	if (!route_is_valid(r))
		return -EINVAL;
	return route_is_there(w, r) ? 0 : -ENOENT;
}

void
dps_route_delete(struct worker *w, const struct route *r)
{
	struct addr_key key = addr_key(r->vni, r->is_ipv6, r->len, r->addr);

	rte_hash_del_key(w->route_hash, &key);
	w->route_lens[r->is_ipv6][r->len]--;
}

int
dps_uplink_check(const struct worker *w, const struct uplink *u)
{
	if (u->port >= RTE_MAX_ETHPORTS || w->ports[u->port].slot == NO_SLOT ||
	    w->ports[u->port].vf)
		return -EINVAL;
	return 0;
}

void
dps_uplink_set(struct worker *w, const struct uplink *u)
{
	struct port_state *port = &w->ports[u->port];

	port->mac = u->mac;
	w->uplinks[w->dp->ports[port->slot].pf] = *u;
}

static void
mask_bits(uint8_t *addr, uint8_t size, uint8_t len)
{
	uint8_t i;

	for (i = 0; i < size; i++) {
		if (len >= (i + 1) * 8)
			continue;
		addr[i] &= len > i * 8 ? 0xff << ((i + 1) * 8 - len) : 0;
	}
}

/* The longest prefix that holds addr: its next hop's underlay address, or NULL. */
static const uint8_t *
route_find(const struct worker *w, uint32_t vni, bool is_ipv6, const uint8_t *addr)
{
	const uint32_t *lens = w->route_lens[is_ipv6];
	const int max = is_ipv6 ? 128 : 32;
	struct addr_key key;
	int32_t pos;
	int len;

	key = addr_key(vni, is_ipv6, 0, addr);
	for (len = max; len >= 0; len--) {
		if (lens[len] == 0)
			continue;
		key.len = len;
		mask_bits(key.addr, max / 8, len);
		pos = rte_hash_lookup(w->route_hash, &key);
		if (pos >= 0)
			return w->next_hops[pos];
	}
	return NULL;
}

/* The local interface that has dst, or else the next hop on another hypervisor. Both NULL: no
 * route. */
static const struct iface *
find_destination(const struct worker *w, uint32_t vni, const struct flow_key *key,
		 const uint8_t **next_hop)
{
	bool is_ipv6 = key->kind & KEY_IPV6;
	const struct iface *dst;

	*next_hop = NULL;
	dst = iface_by_addr(w, vni, is_ipv6, flow_key_dst(key));
	if (dst != NULL)
		return dst;
	*next_hop = route_find(w, vni, is_ipv6, flow_key_dst(key));
	if (*next_hop == NULL)
		return NULL;
	return iface_find(w, w->underlay_hash, *next_hop);
}

static uint16_t
ether_type(const struct flow_key *key)
{
	return rte_cpu_to_be_16(key->kind & KEY_IPV6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4);
}

static enum resolution
verdict_deliver(const struct worker *w, const struct flow_key *key, const struct iface *dst,
		struct verdict *v)
{
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)v->header;

	if (rte_is_zero_ether_addr(&dst->guest_mac))
		return RESOLVED_NO_NEIGHBOUR;
	v->kind = VERDICT_DELIVER;
	v->slot = w->ports[dst->port].slot;
	v->mtu = w->ports[dst->port].mtu;
	v->header_len = ETH_LEN;
	eth->dst_addr = dst->guest_mac;
	eth->src_addr = dst->gateway_mac;
	eth->ether_type = ether_type(key);
	return RESOLVED;
}

static bool
uplink_is_usable(const struct uplink *u)
{
	return u->link_up && !rte_is_zero_ether_addr(&u->router_mac);
}

/* The usable uplink that the flow's hash ranks highest, or NULL. By this choice (rendezvous
 * hashing) an uplink that goes or comes moves only the flows that leave or join it. */
static const struct uplink *
uplink_of(const struct worker *w, const struct flow_key *key)
{
	uint64_t hash = flow_key_hash(w, key), rank, highest = 0;
	const struct uplink *best = NULL;
	uint32_t i;

	for (i = 0; i < MAX_UPLINKS; i++) {
		if (!uplink_is_usable(&w->uplinks[i]))
			continue;
		rank = flow_mix(hash ^ w->secrets[i], w->secrets[MAX_UPLINKS + i]);
		if (best == NULL || rank > highest) {
			best = &w->uplinks[i];
			highest = rank;
		}
	}
	return best;
}

static enum resolution
verdict_encap(const struct worker *w, const struct flow_key *key, const struct iface *src,
	      const uint8_t *next_hop, struct verdict *v)
{
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)v->header;
	struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(v->header + ETH_LEN);
	const struct uplink *u = uplink_of(w, key);

	if (u == NULL)
		return RESOLVED_NO_NEIGHBOUR;
	v->kind = VERDICT_ENCAP;
	v->next = NEXT_ENCAP;
	v->slot = w->ports[u->port].slot;
	v->mtu = w->ports[u->port].mtu - IPV6_LEN;
	v->header_len = OUTER_LEN;
	eth->dst_addr = u->router_mac;
	eth->src_addr = u->mac;
	eth->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6);
	ip->vtc_flow = rte_cpu_to_be_32(6u << 28);
	ip->proto = key->kind & KEY_IPV6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	ip->hop_limits = HOP_LIMIT;
	memcpy(&ip->src_addr, src->underlay, 16);
	memcpy(&ip->dst_addr, next_hop, 16);
	return RESOLVED;
}

/* Whether addr is behind an interface of this node, by its own address or a route. */
static bool
is_local(const struct worker *w, uint32_t vni, bool is_ipv6, const uint8_t *addr)
{
	const uint8_t *hop;

	if (iface_by_addr(w, vni, is_ipv6, addr) != NULL)
		return true;
	hop = route_find(w, vni, is_ipv6, addr);
	return hop != NULL && iface_find(w, w->underlay_hash, hop) != NULL;
}

const struct iface *
dps_iface_by_underlay(const struct worker *w, const uint8_t *addr)
{
	return iface_find(w, w->underlay_hash, addr);
}

const uint8_t *
dps_peer_find(const struct worker *w, uint32_t vni, bool is_ipv6, const uint8_t *addr)
{
	return is_local(w, vni, is_ipv6, addr) ? NULL : route_find(w, vni, is_ipv6, addr);
}

/* Whom the packets must come from. False: nobody may send them. An error can come from a router on
 * the way that has no route: each is looked at for itself. The gateway's addresses are on every
 * hypervisor, so routes say nothing of them. */
static bool
resolve_peer(const struct worker *w, const struct flow_key *key, const struct iface *dst,
	     struct verdict *v)
{
	const uint8_t *peer = NULL;

	if (dst->any_peer)
		return true;
	if (!is_gateway_error(dst, key))
		peer = dps_peer_find(w, dst->vni, key->kind & KEY_IPV6, flow_key_src(key));
	if (peer == NULL && !key_is_icmp_error(key))
		return false;
	v->from_peer = 1;
	if (peer != NULL)
		memcpy(v->peer, peer, sizeof(v->peer));
	return true;
}

static enum resolution
resolve_from_wire(const struct worker *w, const struct flow_key *key, struct verdict *v)
{
	const struct iface *dst = iface_find(w, w->underlay_hash, key->outer);
	const uint8_t *next_hop;
	enum resolution res;

	if (dst == NULL)
		return RESOLVED_UNKNOWN_UNDERLAY;
	if (martian_source(dst, key))
		return RESOLVED_MARTIAN_SOURCE;
	res = martian_destination(dst, key);
	if (res != RESOLVED)
		return res;
	if (!is_gateway_error(dst, key) &&
	    is_local(w, dst->vni, key->kind & KEY_IPV6, flow_key_src(key)))
		return RESOLVED_LOCAL_SOURCE;
	v->iface = dst->index;
	v->vni = dst->vni;
	if (!resolve_peer(w, key, dst, v))
		return RESOLVED_WRONG_PEER;
	if (find_destination(w, dst->vni, key, &next_hop) != dst)
		return RESOLVED_NO_ROUTE;
	v->next = NEXT_DECAP;
	return verdict_deliver(w, key, dst, v);
}

static bool
is_own_address(const struct iface *i, const struct flow_key *key)
{
	if (key->kind & KEY_IPV6)
		return i->has_ipv6 && memcmp(flow_key_src(key), i->ipv6, 16) == 0;
	return i->has_ipv4 && memcmp(flow_key_src(key), i->ipv4, 4) == 0;
}

static enum resolution
resolve_from_guest(const struct worker *w, const struct flow_key *key, struct verdict *v)
{
	const struct iface *src, *dst;
	const uint8_t *next_hop;
	enum resolution res;

	if (w->ports[key->port].iface == NO_IFACE)
		return RESOLVED_SPOOFED;
	src = &w->ifaces[w->ports[key->port].iface];
	if (!is_own_address(src, key))
		return RESOLVED_SPOOFED;
	res = martian_destination(src, key);
	if (res != RESOLVED)
		return res;
	v->iface = src->index;
	v->vni = src->vni;
	v->dec_ttl = 1;
	dst = find_destination(w, src->vni, key, &next_hop);
	if (dst != NULL) {
		v->next = NEXT_DELIVER;
		return verdict_deliver(w, key, dst, v);
	}
	if (next_hop == NULL)
		return RESOLVED_NO_ROUTE;
	return verdict_encap(w, key, src, next_hop, v);
}

enum resolution
dps_resolve(const struct worker *w, const struct flow_key *key, struct verdict *v)
{
	memset(v, 0, sizeof(*v));
	if (key->kind & KEY_WIRE)
		return resolve_from_wire(w, key, v);
	return resolve_from_guest(w, key, v);
}

bool
dps_resolve_back(const struct worker *w, const struct flow_key *key, struct verdict *v)
{
	const struct iface *local;
	const uint8_t *next_hop;

	memset(v, 0, sizeof(*v));
	if (!(key->kind & KEY_WIRE)) {
		if (w->ports[key->port].iface == NO_IFACE)
			return false;
		local = &w->ifaces[w->ports[key->port].iface];
		v->iface = local->index;
		return is_own_address(local, key) && verdict_deliver(w, key, local, v) == RESOLVED;
	}
	local = iface_find(w, w->underlay_hash, key->outer);
	if (local == NULL)
		return false;
	v->iface = local->index;
	next_hop = route_find(w, local->vni, key->kind & KEY_IPV6, flow_key_src(key));
	return next_hop != NULL && verdict_encap(w, key, local, next_hop, v) == RESOLVED;
}
