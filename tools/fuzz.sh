#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the fuzzers: libFuzzer's, for the test NIC's C code, and Go's. See test/net_eswitch/README.md.
#
#   tools/fuzz.sh replay   only what is in the corpus of the C fuzzers; go test does so for Go's
#   tools/fuzz.sh run      also FUZZ_SECONDS (60) of new inputs for each fuzzer
#
# What breaks one is left in build/fuzz, or in the Go package's testdata.
set -euo pipefail

cd "$(dirname "$0")/.."
corpus=test/net_eswitch/fuzz/corpus
binaries=build/meson-fuzz/test/net_eswitch/fuzz
seconds=${FUZZ_SECONDS:-60}
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

build() {
  [ -f build/meson-fuzz/build.ninja ] ||
    CC=clang meson setup build/meson-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
  ninja -C build/meson-fuzz
}

run_c() {
  local name=$1
  echo "fuzz: $name in C, $seconds seconds"
  mkdir -p "build/fuzz/$name"
  "$binaries/fuzz_$name" -max_total_time="$seconds" -verbosity=0 -print_final_stats=1 -artifact_prefix=build/fuzz/ \
    "build/fuzz/$name" "$corpus/$name"
}

run_go() {
  local package=$1 name=$2
  echo "fuzz: $name in $package, $seconds seconds"
  go test -run='^$' -fuzz="^$name\$" -fuzztime="${seconds}s" -parallel=2 "./$package"
}

go_fuzzers() {
  grep -rho --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' "$1" | sed 's/^func //'
}

run() {
  local name file
  # EAL leaves a folder for each of its runs.
  RUNTIME_DIRECTORY=$(mktemp -d /run/dpservice-fuzz.XXXXXX)
  export RUNTIME_DIRECTORY
  trap 'rm -rf "$RUNTIME_DIRECTORY"' EXIT
  for name in "$corpus"/*; do
    run_c "$(basename "$name")"
  done
  for file in $(grep -rl --include='*_test.go' '^func Fuzz' --exclude-dir=build .); do
    for name in $(go_fuzzers "$file"); do
      run_go "$(dirname "$file")" "$name"
    done
  done
}

build
case ${1:-} in
  replay) meson test -C build/meson-fuzz --print-errorlogs ;;
  run) run ;;
  *) echo "usage: tools/fuzz.sh replay|run" >&2; exit 2 ;;
esac
