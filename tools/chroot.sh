# SPDX-License-Identifier: Apache-2.0
#
# What scripts that try things on a clean Debian share. They set root, the folder of its chroot, and source this file.

# The first mirror of this machine that offers DPDK.
debian_mirror() {
  apt-cache policy libdpdk-dev | sed -n 's|^ *[0-9-]* \([a-z]*://[^ ]*\) .*|\1|p' | head -n 1
}

# The chroot's own mounts. Run it in a mount namespace of the script's, with which they end.
chroot_mounts() {
  mount --bind "$root" "$root" # ip netns wants the root to be a mount
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o mode=755 none "$root/run"
}

# Has apt in the chroot reach what it reaches here.
chroot_network() {
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  apt-config dump | grep -iE '^Acquire::[a-z]+::(proxy|[^ ]*cert)' >"$root/etc/apt/apt.conf.d/99host" || true
}

in_chroot() {
  chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}
