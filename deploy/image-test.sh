#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Starts dpservice as the image of build/image/ has it, on net_eswitch with more ports than Debian's DPDK has room for, with the
# capabilities of the DaemonSet, and stops it. Needs root.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
work=$repo/build/image
root=$work/root
vfs=64 # with two uplinks, and a device behind each port: 132
# shellcheck source=tools/chroot.sh
. "$repo/tools/chroot.sh"

fail() {
  echo "image-test: $1" >&2
  exit 1
}

unpack() {
  rm -rf --one-file-system "$root"
  mkdir -p "$root"
  local container
  container=$(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" from localhost/dpservice:latest)
  cp -a "$(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" mount "$container")/." "$root/"
  buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" rm "$container" >/dev/null
}

# The devices behind the ports of net_eswitch: the end here of a veth for each.
links() {
  local i
  for i in wire0 wire1 $(seq -f 'guest%.0f' 0 $((vfs - 1))); do
    ip link add "$i" mtu 1800 type veth peer name "$i-far" mtu 1800
    ip link set "$i" up
    ip link set "$i-far" up
  done
}

configuration() {
  local i eal='"--no-huge", "-m", "1024", "--no-pci", "-l", "0,1", "-d", "/usr/lib/dpservice/librte_net_eswitch.so"'
  local nic='net_eswitch0,pf0=net_af_packet0,pf1=net_af_packet1'
  eal+=', "--vdev=net_af_packet0,iface=wire0", "--vdev=net_af_packet1,iface=wire1"'
  for i in $(seq 0 $((vfs - 1))); do
    eal+=", \"--vdev=net_af_packet$((i + 2)),iface=guest$i\""
    nic+=",vf$i=net_af_packet$((i + 2))"
  done
  cat <<END
eal: [$eal, "--vdev=$nic"]
ports: {pf0: net_eswitch0, pf1: net_eswitch0_pf1, vfs: "net_eswitch0_representor_vf*"}
underlay: {ip: "fc00:1::1", router_mac: "02:00:00:00:00:01"}
socket: /run/dpservice/dpservice.sock
END
}

dpctl() {
  in_chroot dpctl "$@"
}

inside() {
  chroot_mounts
  ip link set lo up
  links
  mkdir -p "$root/etc/dpservice" "$root/run/dpservice"
  configuration >"$root/etc/dpservice/dpservice.yaml"
  # What the DaemonSet gives, and no more.
  local rights=-all,+net_admin,+net_raw,+ipc_lock,+sys_rawio,+sys_nice
  in_chroot RUNTIME_DIRECTORY=/run/dpservice setpriv --bounding-set "$rights" --inh-caps "$rights" --no-new-privs \
    /usr/sbin/dpservice --config /etc/dpservice/dpservice.yaml 2>"$work/log" &
  local daemon=$!
  for _ in $(seq 300); do
    dpctl system info >/dev/null 2>&1 && break
    kill -0 $daemon 2>/dev/null || { tail -n 20 "$work/log" >&2; fail "dpservice has ended"; }
    sleep 0.2
  done
  dpctl system info
  dpctl interface create last --device="net_eswitch0_representor_vf$((vfs - 1))" --vni=100 --ipv4=10.0.0.1
  dpctl interface get last
  kill $daemon
  wait $daemon || fail "dpservice ended with status $?, see $work/log"
  echo "image-test: the image's dpservice has run with $((2 * (vfs + 2))) ports"
}

[ "$(id -u)" = 0 ] || fail "root is needed"
if [ "${1:-}" = inside ]; then
  inside
  exit
fi
unpack
unshare --mount --net --pid --fork --kill-child --propagation private "$0" inside
rm -rf --one-file-system "$root"
