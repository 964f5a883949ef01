#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds and tests dpservice on another system, in a chroot below build/systems/, which is kept for the next time. The source's
# folder is the same there, but for build/. Needs root and Debian's mirrors. Go and its modules are this machine's.
#
#   tools/systems.sh trixie           Debian 13: build, and run the tests that docs/operations.md names
#   tools/systems.sh sid              Debian unstable: likewise
#   tools/systems.sh arm64            Debian 12: build for arm64
#   tools/systems.sh sid make e2e     on any of them: one command in the source's folder
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tools/chroot.sh
. "$repo/tools/chroot.sh"

fail() {
  echo "systems: $1" >&2
  exit 1
}

system=${1:-}
dir=$repo/build/systems/$system
root=$dir/root
suite=$system
architectures=amd64
packages=ca-certificates,git,make
default=(make test-system)
case $system in
trixie | sid) ;;
arm64)
  suite=bookworm
  architectures=amd64,arm64
  packages+=,crossbuild-essential-arm64,libdpdk-dev:arm64,pkgconf,file,qemu-user-static
  default=(make programs-arm64)
  ;;
*) fail "$system: trixie, sid or arm64" ;;
esac
shift
command=("$@")
[ $# -gt 0 ] || command=("${default[@]}")

# Unstable's lists are taken also when a mirror has not brought new ones for weeks.
bootstrap() {
  local mirror
  [ -e "$dir/made" ] && return 0
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || fail "no package source of this machine offers libdpdk-dev: run tools/setup.sh"
  echo "systems: making a chroot of $suite"
  rm -rf --one-file-system "$dir"
  mkdir -p "$dir/build"
  mmdebstrap --quiet --variant=minbase --architectures="$architectures" --include="$packages" \
    --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt=force-unsafe-io \
    "$suite" "$root" "deb $mirror $suite main"
  mkdir -p "$root/dpservice" "$root/go/root" "$root/go/mod" "$root/go/cache"
  touch "$dir/made"
}

# In a mount namespace of its own. Go's cache is the chroot's: it does not notice that C headers are others.
inside() {
  chroot_mounts
  chroot_network
  mount --bind "$(go env GOROOT)" "$root/go/root"
  mount --bind "$(go env GOMODCACHE)" "$root/go/mod"
  mount --bind "$repo" "$root/dpservice"
  mount --bind "$dir/build" "$root/dpservice/build"
  in_chroot HOME=/root PATH=/go/root/bin:/usr/sbin:/usr/bin:/sbin:/bin GOMODCACHE=/go/mod GOCACHE=/go/cache GOPROXY=off \
    sh -c 'cd /dpservice && exec "$@"' sh "${command[@]}"
}

[ "$(id -u)" = 0 ] || fail "root is needed"
cd "$repo"
if [ -n "${SYSTEMS_INSIDE:-}" ]; then
  inside
  exit
fi
command -v mmdebstrap >/dev/null || fail "no mmdebstrap: run tools/setup.sh image"
go mod download
bootstrap
SYSTEMS_INSIDE=1 unshare --mount --pid --fork --kill-child --propagation private "$0" "$system" "${command[@]}"
