#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the image of deploy/Containerfile with buildah, without a container engine, and leaves it in build/image/ as an
# archive that engines load. BASE and GO name images of Debian 12 and of Go; without them, they are made here, of Debian's
# packages and of this machine's Go, so no registry of containers is asked. Needs root and Debian's mirrors.
#
#   deploy/image.sh                                                        build
#   BASE=debian:bookworm-slim GO=golang:1.26.11-bookworm deploy/image.sh   build on these
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
work=$repo/build/image
name=localhost/dpservice:latest
# shellcheck source=tools/chroot.sh
. "$repo/tools/chroot.sh"

fail() {
  echo "image: $1" >&2
  exit 1
}

# Works without a user namespace, overlayfs or a cgroup of its own. What DPDK is built into is kept for the next time.
run_buildah() {
  buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"
}

# Makes an image of the file or folder, which comes to the path in it.
image_of() { # NAME SOURCE PATH
  local container
  run_buildah images "$1" >/dev/null 2>&1 && return 0
  container=$(run_buildah from scratch)
  run_buildah add --quiet "$container" "$2" "$3" >/dev/null
  run_buildah commit --quiet "$container" "$1" >/dev/null
  run_buildah rm "$container" >/dev/null
}

make_base() {
  local mirror
  [ -e "$work/base.tar" ] && return 0
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || fail "no package source of this machine offers libdpdk-dev: run tools/setup.sh"
  printf '%s\n' 'Types: deb' "URIs: $mirror" 'Suites: bookworm' 'Components: main' \
    'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >"$work/debian.sources"
  mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --include=ca-certificates bookworm "$work/base.new.tar" "$work/debian.sources"
  mv "$work/base.new.tar" "$work/base.tar"
}

[ "$(id -u)" = 0 ] || fail "root is needed"
command -v buildah mmdebstrap >/dev/null || fail "no buildah or no mmdebstrap: run tools/setup.sh image"
mkdir -p "$work"
if [ -z "${BASE:-}" ]; then
  make_base
  BASE=localhost/debian:bookworm
  image_of "$BASE" "$work/base.tar" /
fi
if [ -z "${GO:-}" ]; then
  GO=localhost/go:$(go env GOVERSION)
  image_of "$GO" "$(go env GOROOT)" /usr/local/go
fi
cd "$repo"
go mod download
run_buildah build --isolation chroot --layers --network host -f deploy/Containerfile \
  --ignorefile deploy/Containerfile.containerignore -t "$name" \
  --build-arg BASE="$BASE" --build-arg GO="$GO" --build-arg VERSION="$(git describe --tags --always --dirty)" \
  --volume "$(go env GOMODCACHE):/go/pkg/mod" .
rm -f "$work/dpservice.tar"
run_buildah push --quiet "$name" "oci-archive:$work/dpservice.tar:dpservice:latest"
echo "image: $work/dpservice.tar"
