#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the packages of build/package/ on a clean Debian 12 below build/, and tries there what an operator does first: dpctl
# alone, `dpservice check`, and the README's first five minutes with the installed programs, the daemon by the unit's own
# command line with the unit's capabilities and filters. Needs root and Debian's mirrors.
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
build=$repo/build
root=$build/chroot/root
work=$build/chroot
# shellcheck source=tools/chroot.sh
. "$repo/tools/chroot.sh"

fail() {
  echo "chroot-test: $1" >&2
  exit 1
}

# What the README's commands are from; the packages must bring all else.
readme_tools=iproute2,ethtool,iputils-ping,procps,tcpdump,tshark,wireshark-common

bootstrap() {
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null >"$work/all.sources" || true
  mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --include="$readme_tools" bookworm "$root" "$work/all.sources"
}

install_packages() {
  mkdir -p "$root/packages"
  chroot_network
  cp "$build"/package/*.deb "$root/packages/"
  # A sink needs nothing but dpctl.
  in_chroot sh -c 'dpkg -i /packages/dpctl_*.deb' >/dev/null
  chroot --userspec=nobody "$root" /usr/bin/dpctl --help >/dev/null
  in_chroot sh -c '/usr/lib/*/wireshark/extcap/dpservice --extcap-interfaces' | grep -q 'display=dpservice' ||
    fail "the extcap does not answer Wireshark"
  # In the chroot no service may be started, and none is.
  in_chroot sh -c 'apt-get update -qq && apt-get install -y -qq /packages/*.deb' >"$work/apt.log" 2>&1 ||
    { tail -n 20 "$work/apt.log" >&2; fail "apt-get install, see $work/apt.log"; }
  in_chroot getent group dpservice >/dev/null || fail "there is no group dpservice"
}

# As installed, the configuration does not say enough, and check says so.
check_installed() {
  local out
  if out=$(in_chroot dpservice check 2>"$work/check.log"); then
    fail "dpservice check is content with nothing: $out"
  fi
  grep -q '^failed .*ports.pf0 is missing' <<<"$out" || fail "dpservice check does not name ports.pf0: $out"
}

# The README's commands, by the installed programs.
readme_script() {
  sed -n '/^## The first five minutes/,/^## Where/p' "$repo/README.md" | sed -n '/^```sh$/,/^```$/p' | grep -v '^```' |
    sed -e 's#build/dpctl#dpctl#g' \
      -e 's#build/librte_net_eswitch.so#/usr/lib/dpservice/librte_net_eswitch.so#' \
      -e 's#/run/dpservice/dpservice.yaml#/etc/dpservice/dpservice.yaml#g' \
      -e 's#^build/dpservice --config [^ ]*#dpservice check\nRUNTIME_DIRECTORY=/run/dpservice confine /lib/systemd/system/dpservice.service#'
}

expect() {
  grep -qE "$1" "$work/readme.log" || { cat "$work/readme.log" >&2; fail "the README's commands do not say: $1"; }
}

try_readme() { # in a network of its own, as its devices have fixed names
  (cd "$repo" && CGO_ENABLED=0 go build -o "$root/usr/local/bin/confine" ./test/confine)
  readme_script >"$root/readme.sh"
  unshare --net chroot "$root" env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 bash -e /readme.sh >"$work/readme.log" 2>&1 ||
    { cat "$work/readme.log" "$root/run/dpservice/log" >&2 || true; fail "the README's commands failed"; }
  expect '^ok +configuration'
  expect '3 packets transmitted, 3 received, 0% packet loss'
  expect 'vm-1 .* icmp/8 +10\.0\.0\.1 +10\.0\.0\.2 .* yes '
  expect 'stopped capturing on 3 interface'
  expect '10\.0\.0\.1 → 10\.0\.0\.2 +ICMP .* request'
}

# Purging leaves nothing behind.
remove_packages() {
  in_chroot apt-get purge -y -qq dpservice dpctl dpservice-net-eswitch >>"$work/apt.log" 2>&1 || fail "apt-get purge, see $work/apt.log"
  local left
  left=$(cd "$root" && find etc lib/systemd usr var/lib -path 'var/lib/dpkg' -prune -o -name '*dpservice*' -print -o -name '*dpctl*' -print)
  [ -z "$left" ] || fail "purging leaves: $left"
}

if [ "${1:-}" = inside ]; then
  chroot_mounts
  install_packages
  check_installed
  try_readme
  remove_packages
  echo 'chroot-test: the packages install, run, and go on a clean Debian 12'
  exit
fi
[ "$(id -u)" = 0 ] || fail "root is needed"
rm -rf --one-file-system "$work"
mkdir -p "$work"
bootstrap
unshare --mount --pid --fork --kill-child --propagation private "$0" inside
rm -rf --one-file-system "$work"
