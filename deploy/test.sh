#!/bin/sh
# Set-up, build, all tests:
#
#   deploy/test.sh [--quick | --full] [-- CTEST-ARGUMENT...]
#
#   (nothing)  the tests of the default build and, under AddressSanitizer with
#              UBSan and under ThreadSanitizer, those marked for them
#   --quick    without the sanitizers
#   --full     also the tests labelled `slow` (kill loops, image build, soak),
#              and every fuzzer of tests/fuzz for ten minutes
#
# Needs a Debian 12 with root or sudo, see deploy/setup.sh. Builds lie in
# build/default, build/asan and build/tsan; compiled objects are shared through
# ccache, so a second run takes seconds before its first test. Ends with ctest's
# own closing lines; exit status 0 only when everything passed.
set -eu

usage() {
  sed -n '2,/^set -eu/ { s/^# \{0,1\}//p }' "$0"
}

mode=normal
while [ $# -gt 0 ]; do
  case $1 in
  --quick) mode=quick ;;
  --full) mode=full ;;
  --help | -h)
    usage
    exit 0
    ;;
  --)
    shift
    break
    ;;
  *)
    printf 'test.sh: unknown argument %s; it takes --quick, --full, --help\n' "$1" >&2
    exit 2
    ;;
  esac
  shift
done

cd "$(dirname "$0")/.."
started=$(date +%s)
jobs=$(nproc)
sanitizers_failed=

step() { printf '\n== %s (%d s after the start)\n' "$*" $(($(date +%s) - started)); }

# gpu tests want a device and run on their own: ctest -L gpu.
case $mode in
full) excluded='^gpu$' ;;
*) excluded='^(gpu|slow)$' ;;
esac

run_tests() { # BUILD-FOLDER CTEST-ARGUMENT...
  folder=$1
  shift
  ctest --test-dir "$folder" --output-on-failure --no-tests=error \
    --parallel 2 --label-exclude "$excluded" --timeout 300 "$@"
}

# Optimised a little and with line numbers only: at -O0 -g the same tests take
# three times as long to build and to run.
sanitize() { # PRESET
  step "build and tests under the preset $1"
  cmake --preset "$1" -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" >/dev/null &&
    cmake --build "build/$1" --target sanitizer_tests --parallel "$jobs" &&
    run_tests "build/$1" --no-label-summary ||
    sanitizers_failed="$sanitizers_failed $1"
}

step "packages"
case $mode in
full) deploy/setup.sh build test image fuzz ;;
*) deploy/setup.sh build test ;;
esac

step "configure and build"
cmake --preset default
cmake --build build/default --parallel "$jobs"

if [ "$mode" != quick ]; then
  # Each suppression stands in its file with the reason for it.
  suppressions=$PWD/deploy/sanitizers
  export ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1"
  export LSAN_OPTIONS="suppressions=$suppressions/lsan.supp:print_suppressions=0"
  export UBSAN_OPTIONS="print_stacktrace=1"
  export TSAN_OPTIONS="suppressions=$suppressions/tsan.supp:print_suppressions=0:halt_on_error=1"
  sanitize asan
  sanitize tsan
fi

# One at a time: each has a core, and 512 MB, to itself.
if [ "$mode" = full ]; then
  step "fuzzing"
  cmake --preset fuzz >/dev/null &&
    cmake --build --preset fuzz --parallel "$jobs" &&
    ctest --test-dir build/fuzz --output-on-failure --no-tests=error \
      --label-regex '^fuzz$' ||
    sanitizers_failed="$sanitizers_failed fuzz"
fi

step "tests"
if [ -s build/default/tests_left_out.txt ]; then
  echo "Left out, because a tool is missing here:"
  sed 's/^/  /' build/default/tests_left_out.txt
fi
if [ "$mode" = quick ]; then
  echo "Left out, because of --quick: the sanitizers"
fi
status=0
run_tests build/default "$@" || status=$?
if [ -n "$sanitizers_failed" ]; then
  echo "FAILED under:$sanitizers_failed (their reports are above)"
  status=1
fi
exit "$status"
