/* SPDX-License-Identifier: Apache-2.0 */

/* pf0=ETHDEV,pf1=ETHDEV,vf0=ETHDEV,... : the ports of the NIC and what is behind each. Faults too
 * (see fault.c). */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_kvargs.h>
#include <rte_string_fns.h>

#include "eswitch.h"

static int
parse_port_name(const char *key, enum esw_kind *kind, uint16_t *vf)
{
	unsigned long n;
	char *end;

	*vf = 0;
	if (strcmp(key, "pf0") == 0) {
		*kind = ESW_PF0;
		return 0;
	}
	if (strcmp(key, "pf1") == 0) {
		*kind = ESW_PF1;
		return 0;
	}
	if (strncmp(key, "vf", 2) != 0 || !isdigit((unsigned char)key[2]))
		return -EINVAL;
	n = strtoul(key + 2, &end, 10);
	if (*end != '\0' || n > ESW_MAX_VF_ID)
		return -EINVAL;
	*kind = ESW_VF;
	*vf = n;
	return 0;
}

static int
add_fault(struct esw_devargs *out, const char *key, const char *value)
{
	size_t at = strlen(out->faults), room = sizeof(out->faults) - at;
	int len = snprintf(out->faults + at, room, "%s%s=%s", at == 0 ? "" : ",", key,
			   value == NULL ? "" : value);

	if (len >= 0 && (size_t)len < room)
		return 0;
	ESW_LOG(ERR, "%s: too many faults\n", key);
	return -EINVAL;
}

/* As net_mlx5's: 1 takes marks and metadata beyond NIC RX. */
static int
set_metadata(struct esw_devargs *out, const char *value)
{
	if (value == NULL || (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)) {
		ESW_LOG(ERR, "dv_xmeta_en is 0 or 1\n");
		return -EINVAL;
	}
	out->metadata = value[0] == '1';
	return 0;
}

static int
set_card(struct esw_devargs *out, const char *value)
{
	static const char *const names[] = {
		[ESW_CX5] = "cx5", [ESW_CX6DX] = "cx6dx", [ESW_CX7] = "cx7"
	};
	size_t i;

	for (i = 0; i < RTE_DIM(names); i++) {
		if (value != NULL && strcmp(value, names[i]) == 0) {
			out->card = i;
			return 0;
		}
	}
	ESW_LOG(ERR, "card is cx5, cx6dx or cx7\n");
	return -EINVAL;
}

static int
add_argument(const char *key, const char *value, void *opaque)
{
	struct esw_devargs *out = opaque;
	enum esw_kind kind;
	uint16_t vf;
	uint32_t i;

	if (esw_fault_is_key(key))
		return add_fault(out, key, value);
	if (strcmp(key, "dv_xmeta_en") == 0)
		return set_metadata(out, value);
	if (strcmp(key, "card") == 0)
		return set_card(out, value);
	if (parse_port_name(key, &kind, &vf) < 0) {
		ESW_LOG(ERR,
			"unknown argument %s: pf0, pf1, vf0..vf%u, card, dv_xmeta_en or a fault\n",
			key, ESW_MAX_VF_ID);
		return -EINVAL;
	}
	for (i = 0; i < out->ports; i++) {
		if (out->port[i].kind == kind && out->port[i].vf == vf) {
			ESW_LOG(ERR, "%s is given twice\n", key);
			return -EINVAL;
		}
	}
	if (out->ports == ESW_MAX_PORTS) {
		ESW_LOG(ERR, "%s: more than %u ports\n", key, ESW_MAX_PORTS);
		return -EINVAL;
	}
	if (value == NULL || value[0] == '\0' ||
	    rte_strscpy(out->port[out->ports].far, value, sizeof(out->port[0].far)) < 0) {
		ESW_LOG(ERR, "%s takes the name of an ethdev\n", key);
		return -EINVAL;
	}
	out->port[out->ports].kind = kind;
	out->port[out->ports].vf = vf;
	out->ports++;
	return 0;
}

static int
by_kind_and_number(const void *a, const void *b)
{
	const typeof(((struct esw_devargs *)0)->port[0]) *x = a, *y = b;

	return x->kind != y->kind ? (int)x->kind - (int)y->kind : x->vf - y->vf;
}

/* Reads the devargs; PF0 comes first in the result, and has to be there. */
int
esw_devargs_parse(const char *args, struct esw_devargs *out)
{
	struct rte_kvargs *kvargs;
	int ret;

	memset(out, 0, sizeof(*out));
	out->card = ESW_CX6DX;
	kvargs = rte_kvargs_parse(args == NULL ? "" : args, NULL);
	if (kvargs == NULL) {
		ESW_LOG(ERR, "malformed arguments: %s\n", args);
		return -EINVAL;
	}
	ret = rte_kvargs_process(kvargs, NULL, add_argument, out);
	rte_kvargs_free(kvargs);
	if (ret < 0)
		return -EINVAL;
	qsort(out->port, out->ports, sizeof(out->port[0]), by_kind_and_number);
	if (out->ports == 0 || out->port[0].kind != ESW_PF0) {
		ESW_LOG(ERR, "pf0 is missing\n");
		return -EINVAL;
	}
	return 0;
}
