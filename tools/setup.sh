#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what building and testing dpservice needs on Debian 12, and unpacks the DPDK source of the
# installed libdpdk into build/dpdk-src: Debian's libdpdk-dev lacks the headers a driver is built with.
# Idempotent: what is there already is left alone, and then the network is not asked.
#
#   tools/setup.sh           what building, the demo and the tests need
#   tools/setup.sh lint      also the linters and govulncheck
#   tools/setup.sh deb       also what makes and checks Debian packages
#   tools/setup.sh image     also what makes images and chroots
#   tools/setup.sh fleet     also what Kubernetes' API server needs in the tests, kubectl, and an S3-compatible store
#   tools/setup.sh programs  without DPDK's source, so without the test NICs
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
build=$repo/build
golangci_version=v2.15.0
govulncheck_version=v1.9.0
nfpm_version=v2.45.2
versitygw_version=v1.8.0

packages=(
  build-essential clang dpkg-dev meson ninja-build pkg-config python3-pyelftools  # building
  libclang-rt-dev                                                                 # clang's sanitizers and fuzzer
  dpdk dpdk-dev libdpdk-dev librte-meta-all libcmocka-dev libpcap-dev             # DPDK, its test programs
  libibverbs-dev                                                                  # what net_mlx5 includes
  iproute2 ethtool iputils-ping iperf3 socat tcpdump tshark wireshark-common jq   # the tests' peers
  udhcpc                                                                          # their guests
  graphviz tmux                                                                   # dpctl's drawings and screens
)
# Debian 14 will have no dhclient: the test whose guests boot with it is left out there.
! grep -qE '^VERSION_CODENAME=(bookworm|trixie)$' /etc/os-release || packages+=(isc-dhcp-client)
deb_packages=(lintian mmdebstrap man-db)
image_packages=(buildah mmdebstrap)

fail() {
  echo "setup: $1 failed: $2" >&2
  exit 1
}

missing_packages() {
  local name
  for name in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || echo "$name"
  done
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || fail packages "root is needed to install: ${missing[*]}"
  echo "setup: installing ${missing[*]}"
  apt-get update -qq || fail packages "apt-get update (is the network there?)"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >"$build/apt.log" 2>&1 || { tail -n 20 "$build/apt.log" >&2; fail packages "apt-get install, see $build/apt.log"; }
}

# The repositories, one URI a line, that offer libdpdk-dev.
dpdk_uris() {
  apt-cache policy libdpdk-dev | sed -n 's|^ *[0-9-]* \([a-z]*://[^ ]*\) .*|\1|p' | sort -u
}

# Writes a copy of the machine's package sources that asks for sources instead of binaries, leaving out those
# that have no DPDK (a third party's repository often has no sources at all).
write_source_lists() {
  local into=$1 uris file
  uris=$(dpdk_uris)
  if [ -z "$uris" ]; then
    apt-get update -qq || fail "DPDK source" "apt-get update (is the network there?)"
    uris=$(dpdk_uris)
  fi
  [ -n "$uris" ] || fail "DPDK source" "no package source of this machine offers libdpdk-dev"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    [ -f "$file" ] && grep -qF "$uris" "$file" || continue
    sed -e 's/^Types:.*/Types: deb-src/' -e 's/^deb /deb-src /' "$file" >"$into/$(basename "$file")"
  done
}

unpack_dpdk_source() {
  local version work apt
  version=$(dpkg-query -W -f '${source:Version}' libdpdk-dev)
  [ "$(cat "$build/dpdk-src/.version" 2>/dev/null)" = "$version" ] && return 0
  echo "setup: fetching the source of dpdk $version"
  rm -rf "$build"/source.* # of an attempt that failed
  work=$(mktemp -d "$build/source.XXXXXX")
  chmod 755 "$work"
  mkdir -p "$work/sources.d" "$work/lists/partial"
  write_source_lists "$work/sources.d"
  apt=(apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null
    -o "Dir::Etc::sourceparts=$work/sources.d" -o "Dir::State::lists=$work/lists")
  "${apt[@]}" update || fail "DPDK source" "apt-get update for the source lists in $work/sources.d"
  (cd "$work" && "${apt[@]}" source --download-only "dpdk=$version") ||
    fail "DPDK source" "no source of dpdk $version; upgrade libdpdk-dev and try again"
  dpkg-source --no-check -x "$work"/dpdk_*.dsc "$work/dpdk" >"$build/dpkg-source.log" 2>&1 ||
    fail "DPDK source" "dpkg-source, see $build/dpkg-source.log"
  rm -rf "$build/dpdk-src"
  mv "$work/dpdk" "$build/dpdk-src"
  echo "$version" >"$build/dpdk-src/.version"
  rm -rf "$work"
}

# Builds a Go program of this version into build/bin, unless it is there.
install_tool() {
  local name=$1 package=$2 version=$3
  go version -m "$build/bin/$name" 2>/dev/null | grep -q "^[[:space:]]*mod[[:space:]].*[[:space:]]$version[[:space:]]" && return 0
  echo "setup: building $name $version"
  GOFLAGS=-buildvcs=false GOBIN=$build/bin go install "$package@$version" || fail "$name" "go install $package@$version"
}

# Unpacks a package of Debian's into a folder of build/, unless the file is there: installed, its service would run.
unpack_package() {
  local name=$1 file=$2 dir=$build/$1
  [ -x "$dir/$file" ] && return 0
  echo "setup: fetching $name"
  rm -rf "$dir"
  mkdir -p "$dir"
  (cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$name") ||
    (apt-get update -qq && cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$name") ||
    fail "$name" "apt-get download"
  dpkg-deb -x "$dir/$name"_*.deb "$dir"
  rm "$dir/$name"_*.deb
}

command -v go >/dev/null || fail Go "no go command: install Go (see go.mod for the version) and put it on PATH"
mkdir -p "$build/bin"
case ${1:-} in
lint) packages+=(clang-format-14) ;; # the version that Debian 12 has: another one may format otherwise
deb) packages+=("${deb_packages[@]}") ;;
image) packages+=("${image_packages[@]}") ;;
esac
install_packages
[ "${1:-}" = programs ] || unpack_dpdk_source
case ${1:-} in
lint)
  install_tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint "$golangci_version"
  install_tool govulncheck golang.org/x/vuln/cmd/govulncheck "$govulncheck_version"
  ;;
deb)
  install_tool nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm "$nfpm_version"
  unpack_package prometheus usr/bin/promtool
  unpack_package prometheus-alertmanager usr/bin/prometheus-alertmanager
  ;;
fleet)
  unpack_package etcd-server usr/bin/etcd
  unpack_package kubernetes-client usr/bin/kubectl
  install_tool versitygw github.com/versity/versitygw/cmd/versitygw "$versitygw_version"
  ;;
esac
