#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Starts dpservice as the image of build/image/ has it, with as many ports as a ConnectX with 126 VFs needs and more, and with
# the capabilities of the DaemonSet; creates an interface at the last VF, and ends it. Needs root.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
work=$repo/build/image
root=$work/root
ports=132
vfs=30 # net_eswitch takes no more: DPDK reads 32 arguments of a device
# shellcheck source=tools/chroot.sh
. "$repo/tools/chroot.sh"

fail() {
  echo "image-test: $1" >&2
  exit 1
}

run_buildah() {
  buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"
}

unpack() {
  local container
  rm -rf --one-file-system "$root"
  mkdir -p "$root"
  container=$(run_buildah from localhost/dpservice:latest)
  cp -a "$(run_buildah mount "$container")/." "$root/"
  run_buildah rm "$container" >/dev/null
}

# The devices behind the ports of net_eswitch: one end of a veth for each.
links() {
  local name
  for name in wire0 wire1 $(seq -f 'guest%.0f' 0 $((vfs - 1))); do
    ip link add "$name" mtu 1800 type veth peer name "$name-far" mtu 1800
    ip link set "$name" up
    ip link set "$name-far" up
  done
}

# Each port of net_eswitch has a device behind it, which is a port, too. Rings make up the number.
configuration() {
  local i eal='"--no-huge", "-m", "1024", "--no-pci", "-l", "0,1", "-d", "/usr/lib/dpservice/librte_net_eswitch.so"'
  local nic='net_eswitch0,pf0=net_af_packet0,pf1=net_af_packet1'
  eal+=', "--vdev=net_af_packet0,iface=wire0", "--vdev=net_af_packet1,iface=wire1"'
  for i in $(seq 0 $((vfs - 1))); do
    eal+=", \"--vdev=net_af_packet$((i + 2)),iface=guest$i\""
    nic+=",vf$i=net_af_packet$((i + 2))"
  done
  eal+=", \"--vdev=$nic\""
  for i in $(seq $((2 * (vfs + 2))) $((ports - 1))); do
    eal+=", \"--vdev=net_ring$i\""
  done
  cat <<END
eal: [$eal]
ports: {pf0: net_eswitch0, pf1: net_eswitch0_pf1, vfs: "net_eswitch0_representor_vf*"}
underlay: {ip: "fc00:1::1", router_mac: "02:00:00:00:00:01"}
socket: /run/dpservice/dpservice.sock
END
}

# What the DaemonSet gives, and no more.
rights=-all,+net_admin,+net_raw,+ipc_lock,+sys_rawio,+sys_nice

inside() {
  local daemon last="net_eswitch0_representor_vf$((vfs - 1))"
  chroot_mounts
  ip link set lo up
  links
  mkdir -p "$root/etc/dpservice" "$root/run/dpservice"
  configuration >"$root/etc/dpservice/dpservice.yaml"
  # Not by in_chroot: the process to end would be a shell's.
  chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin RUNTIME_DIRECTORY=/run/dpservice \
    setpriv --bounding-set "$rights" --inh-caps "$rights" --no-new-privs \
    /usr/sbin/dpservice --config /etc/dpservice/dpservice.yaml 2>"$work/log" &
  daemon=$!
  until in_chroot dpctl system info >/dev/null 2>&1; do
    kill -0 $daemon 2>/dev/null || { tail -n 20 "$work/log" >&2; fail "dpservice has ended, see $work/log"; }
    sleep 0.2
  done
  in_chroot dpctl system info
  in_chroot dpctl interface create last --device="$last" --vni=100 --ipv4=10.0.0.1
  kill $daemon
  wait $daemon || { tail -n 20 "$work/log" >&2; fail "dpservice ended with status $?, see $work/log"; }
  echo "image-test: the image's dpservice has run with $ports ports"
}

[ "$(id -u)" = 0 ] || fail "root is needed"
if [ "${1:-}" = inside ]; then
  inside
  exit
fi
unpack
unshare --mount --net --pid --fork --kill-child --propagation private "$0" inside
rm -rf --one-file-system "$root"
