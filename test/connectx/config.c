/* SPDX-License-Identifier: Apache-2.0 */

/* The environment variable CONNECTX: which card it is, and what is behind its ports. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"

struct cx_config cx_config;

/*
 * Device ids: mlx5_pci_id_map of the driver. What differs between the cards beside:
 * steering_format_version, whether a register survives the way from the switch to the host, and
 * which objects there are for ages, meters and connections.
 */
static const struct cx_profile profiles[] = {
	{ .name = "cx5", .pci_device = 0x1017, .steering_format = 0 },
	{ .name = "cx6dx",
	  .pci_device = 0x101d,
	  .steering_format = 1,
	  .reg_c_preserve = true,
	  .flow_hit_aso = true,
	  .meter_aso = true,
	  .ct_aso = true },
	{ .name = "cx7",
	  .pci_device = 0x1021,
	  .steering_format = 2,
	  .reg_c_preserve = true,
	  .flow_hit_aso = true,
	  .meter_aso = true,
	  .ct_aso = true },
};

void
cx_die(const char *format, ...)
{
	va_list args;

	fputs("connectx: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

static void
set_card(const char *value)
{
	size_t i;

	for (i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++)
		if (strcmp(profiles[i].name, value) == 0) {
			cx_config.profile = &profiles[i];
			return;
		}
	cx_die("CONNECTX: card=%s: there are cx5, cx6dx and cx7", value);
}

/* The number behind vf, or -1. */
static int
vf_of(const char *key)
{
	unsigned long n;
	char *end;

	if (strncmp(key, "vf", 2) != 0 || key[2] < '0' || key[2] > '9')
		return -1;
	n = strtoul(key + 2, &end, 10);
	if (*end != '\0')
		return -1;
	if (n >= CX_MAX_VFS)
		cx_die("CONNECTX: %s: VFs are numbered from 0 to %u", key, CX_MAX_VFS - 1);
	return n;
}

static void
set_far(const char *key, const char *value, uint32_t pf, uint32_t port)
{
	char *far = cx_config.far[pf][port];

	if (strlen(value) >= IFNAMSIZ)
		cx_die("CONNECTX: %s=%s: no netdev has a name that long", key, value);
	if (far[0] != '\0')
		cx_die("CONNECTX: %s is there twice", key);
	strcpy(far, value);
}

static void
set_twin(const char *value)
{
	/* Behind it comes what the port is called, up to vf14. */
	if (strlen(value) >= sizeof(cx_config.twin))
		cx_die("CONNECTX: twin=%s: up to %zu letters", value, sizeof(cx_config.twin) - 1);
	strcpy(cx_config.twin, value);
}

static void
add_fault(const char *key, const char *value)
{
	size_t at = strlen(cx_config.faults);
	int n = snprintf(cx_config.faults + at, sizeof(cx_config.faults) - at, "%s%s=%s",
			 at == 0 ? "" : ",", key, value);

	if (n < 0 || (size_t)n >= sizeof(cx_config.faults) - at)
		cx_die("CONNECTX: too many faults");
}

static void
set_pair(char *pair)
{
	char *value = strchr(pair, '=');

	if (value == NULL || value[1] == '\0')
		cx_die("CONNECTX: %s: wanted KEY=VALUE", pair);
	*value++ = '\0';
	if (strcmp(pair, "card") == 0)
		set_card(value);
	else if (strcmp(pair, "twin") == 0)
		set_twin(value);
	else if (strcmp(pair, "pf0") == 0)
		set_far(pair, value, 0, 0);
	else if (strcmp(pair, "pf1") == 0)
		set_far(pair, value, 1, 0);
	else if (vf_of(pair) >= 0)
		set_far(pair, value, 0, 1 + vf_of(pair));
	else
		add_fault(pair, value);
}

static void
check_twice(void)
{
	const char *seen[CX_PFS * CX_MAX_VPORTS];
	uint32_t pf, port, i, n = 0;

	for (pf = 0; pf < CX_PFS; pf++)
		for (port = 0; port < CX_MAX_VPORTS; port++) {
			const char *far = cx_config.far[pf][port];

			if (far[0] == '\0')
				continue;
			for (i = 0; i < n; i++)
				if (strcmp(seen[i], far) == 0)
					cx_die("CONNECTX: %s is behind two ports", far);
			seen[n++] = far;
		}
}

/* Reads card=CARD,pf0=NETDEV,... Ends the program if that is not understood. */
void
cx_config_parse(const char *text)
{
	char *copy = strdup(text), *save, *pair;

	if (copy == NULL)
		cx_die("CONNECTX: no memory");
	cx_config.profile = &profiles[1];
	set_twin("cx");
	for (pair = strtok_r(copy, ",", &save); pair != NULL; pair = strtok_r(NULL, ",", &save))
		set_pair(pair);
	free(copy);
	if (cx_config.far[0][0][0] == '\0')
		cx_die("CONNECTX: pf0=NETDEV is not there");
	check_twice();
}
