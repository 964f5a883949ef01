#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes Debian packages of what `make build` has built: build/package/*.deb. The same commit gives the same packages.
set -euo pipefail
shopt -s inherit_errexit

repo=$(cd "$(dirname "$0")/../.." && pwd)
build=$repo/build
out=$build/package
stage=$out/stage
umask 022

# A version that sorts: a tag's, or the commit's time.
version() {
  local described
  described=$(git -C "$repo" describe --tags --match 'v[0-9]*' 2>/dev/null || true)
  if [ -n "$described" ]; then
    described=${described#v}
    echo "${described//-/+}-1"
  else
    git -C "$repo" show -s --date=format:%Y%m%d%H%M%S --format=0.1~git%cd.%h-1
  fi
}

# The packages that own DPDK drivers of these names; EAL loads them when it starts.
driver_packages() {
  local name
  for name in "$@"; do
    dpkg-query -S "/usr/lib/*/dpdk/pmds-*/librte_$name.so.*" | sed 's/:.*//'
  done | sort -u | paste -sd, | sed 's/,/, /g'
}

# The packages, with versions, whose libraries a file is linked with.
library_packages() {
  local control
  control=$(mktemp -d)
  mkdir "$control/debian"
  printf 'Source: dpservice\n\nPackage: dpservice\nArchitecture: any\n' >"$control/debian/control"
  (cd "$control" && dpkg-shlibdeps --warnings=0 -O "$1" 2> >(grep -v "should already be installed" >&2)) | sed 's/^shlibs:Depends=//'
  rm -r "$control"
}

manual() { # PROGRAM
  mkdir "$stage/$1-man"
  "$build/$1" man "$stage/$1-man"
  gzip -9n "$stage/$1-man"/*
}

completions() { # PROGRAM
  local shell
  for shell in bash zsh fish; do
    "$build/$1" completion $shell >"$stage/$1.$shell"
  done
}

changelog() { # PACKAGE
  gzip -9n >"$stage/$1.changelog.gz" <<END
$1 ($DEB_VERSION) unstable; urgency=medium

  * What has changed: git log, at $(git -C "$repo" rev-parse --short HEAD).

 -- $DEB_MAINTAINER  $(date -Rud "@$SOURCE_DATE_EPOCH")
END
}

copyright() {
  cat <<'END'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2026 the authors of dpservice
License: Apache-2.0
 On Debian systems the text of the license is in /usr/share/common-licenses/Apache-2.0.
END
}

rm -rf "$out"
mkdir -p "$stage"
SOURCE_DATE_EPOCH=$(git -C "$repo" show -s --format=%ct)
DEB_VERSION=$(version)
DEB_ARCH=$(dpkg --print-architecture)
DEB_MAINTAINER=$(git -C "$repo" log -1 --format='%an <%ae>')
WIRESHARK_DIR=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)/wireshark
export SOURCE_DATE_EPOCH DEB_VERSION DEB_ARCH DEB_MAINTAINER WIRESHARK_DIR

for program in dpservice dpctl librte_net_eswitch.so; do
  strip --strip-unneeded --remove-section=.comment --remove-section=.note -o "$stage/$program" "$build/$program"
done
chmod 644 "$stage/librte_net_eswitch.so"
for program in dpservice dpctl; do
  manual $program
  completions $program
done
copyright >"$stage/copyright"
mkdir "$stage/docs"
cp "$repo"/docs/*.md "$repo"/docs/*.svg "$repo/SECURITY.md" "$stage/docs/"

DPSERVICE_LIBRARIES=$(library_packages "$build/dpservice")
DPSERVICE_DRIVERS=$(driver_packages net_mlx5 net_af_packet mempool_ring bus_pci bus_vdev bus_auxiliary)
ESWITCH_LIBRARIES=$(library_packages "$build/librte_net_eswitch.so")
ESWITCH_DRIVERS=$(driver_packages net_af_packet net_ring bus_vdev)
export DPSERVICE_LIBRARIES DPSERVICE_DRIVERS ESWITCH_LIBRARIES ESWITCH_DRIVERS

cd "$out"
for package in dpservice dpctl dpservice-net-eswitch; do
  changelog $package
  "$build/bin/nfpm" package --packager deb --config "$repo/tools/package/$package.nfpm.yaml" --target "$out/" >/dev/null
done
rm -r "$stage"
ls "$out"
