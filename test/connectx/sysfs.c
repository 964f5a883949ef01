/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A folder that EAL takes for /sys/bus/pci/devices, because SYSFS_PCI_DEVICES says so, and the
 * driver for the sysfs folders of its IB devices. EAL sees this card and no other PCI device.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"

static char root[PATH_MAX / 2];
static pid_t owner;

static void
make_folder(const char *format, ...)
{
	char path[PATH_MAX], *slash;
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	for (slash = strchr(path + strlen(root) + 1, '/'); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			cx_die("cannot make folder %s: %s", path, strerror(errno));
		*slash = '/';
	}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		cx_die("cannot make folder %s: %s", path, strerror(errno));
}

static void
write_file(const char *folder, const char *name, const char *text)
{
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "we");
	if (file == NULL || fputs(text, file) == EOF || fclose(file) != 0)
		cx_die("cannot write %s: %s", path, strerror(errno));
}

/* What rte_pci_scan reads of a device. Its BARs are empty: the driver does not map any. */
static void
make_pci_device(uint32_t pf)
{
	char folder[PATH_MAX], path[PATH_MAX + 16], id[16], resources[512] = "";
	int bar;

	snprintf(folder, sizeof(folder), "%s/pci/" CX_PCI_DEVICE, root, pf);
	make_folder("%s", folder);
	snprintf(id, sizeof(id), "0x%04x\n", cx_config.profile->pci_device);
	write_file(folder, "vendor", "0x15b3\n");
	write_file(folder, "device", id);
	write_file(folder, "subsystem_vendor", "0x15b3\n");
	write_file(folder, "subsystem_device", "0x0001\n");
	write_file(folder, "class", "0x020000\n");
	write_file(folder, "numa_node", "0\n");
	write_file(folder, "max_vfs", "0\n");
	for (bar = 0; bar < 6; bar++)
		strcat(resources, "0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
	write_file(folder, "resource", resources);
	snprintf(path, sizeof(path), "%s/driver", folder);
	if (symlink("../../drivers/mlx5_core", path) < 0)
		cx_die("cannot make link %s: %s", path, strerror(errno));
}

void
cx_sysfs_ib_path(uint32_t pf, char *path, size_t size)
{
	snprintf(path, size, "%s/ib/mlx5_%u", root, pf);
}

static void
make_ib_device(uint32_t pf)
{
	char path[PATH_MAX], folder[PATH_MAX + 16], uevent[64];

	cx_sysfs_ib_path(pf, path, sizeof(path));
	snprintf(folder, sizeof(folder), "%s/device", path);
	make_folder("%s", folder);
	snprintf(uevent, sizeof(uevent), "PCI_SLOT_NAME=" CX_PCI_DEVICE "\n", pf);
	write_file(folder, "uevent", uevent);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
remove_tree(void)
{
	if (nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
		fprintf(stderr, "connectx: cannot remove %s: %s\n", root, strerror(errno));
}

/*
 * The folder is named after the process, so that a program that calls exec, like nice, leaves none
 * behind: the next one takes its place.
 */
void
cx_sysfs_create(void)
{
	const char *below = getenv("RUNTIME_DIRECTORY");
	char path[PATH_MAX];

	owner = getpid();
	snprintf(root, sizeof(root), "%s/connectx.%d", below != NULL ? below : "/run", (int)owner);
	remove_tree();
	if (mkdir(root, 0755) < 0)
		cx_die("cannot make folder %s: %s", root, strerror(errno));
	make_folder("%s/drivers/mlx5_core", root);
	for (uint32_t pf = 0; pf < CX_PFS; pf++)
		if (cx_config.far[pf][0][0] != '\0') {
			make_pci_device(pf);
			make_ib_device(pf);
		}
	snprintf(path, sizeof(path), "%s/pci", root);
	if (setenv("SYSFS_PCI_DEVICES", path, 1) < 0)
		cx_die("cannot set SYSFS_PCI_DEVICES: %s", strerror(errno));
}

/* At the end of the process that has made it, not of one that was forked off. */
void
cx_sysfs_remove(void)
{
	if (owner != 0 && owner == getpid())
		remove_tree();
}
