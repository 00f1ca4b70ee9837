#!/bin/sh
# From nothing to answers: set-up, build, a server with the bundled trained
# models, and what it says about two of them.
#
#   deploy/demo.sh
#
# Needs a Debian 12 with root or sudo, see deploy/setup.sh. The server listens
# on free ports of 127.0.0.1, keeps its data in a temporary folder and is
# stopped at the end. Exit status 0 only when every step worked.
set -eu

if [ $# -gt 0 ]; then
  sed -n '2,/^set -eu/ { /^set/!s/^# \{0,1\}//p }' "$0"
  case $1 in --help | -h) exit 0 ;; *) exit 2 ;; esac
fi

cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }

say "packages"
deploy/setup.sh build

say "build"
# Without the tests, whose libraries are not needed here.
cmake --preset default -DMOESCOPE_BUILD_TESTS=OFF >/dev/null
cmake --build build/default --target moescope-server moescope --parallel "$(nproc)"

scratch=$(mktemp -d)
server=
stop() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT TERM

say "server"
build/default/server/app/moescope-server --model_root=tests/testdata/models \
  --data_dir="$scratch/data" --listen=127.0.0.1:0 --metrics_listen=127.0.0.1:0 \
  --port_file="$scratch/ports.json" 2>"$scratch/server.log" &
server=$!
waited=0
while [ ! -s "$scratch/ports.json" ]; do
  if ! kill -0 "$server" 2>/dev/null || [ "$waited" -ge 300 ]; then
    cat "$scratch/server.log" >&2
    echo "demo.sh: the server did not start" >&2
    exit 1
  fi
  sleep 0.1
  waited=$((waited + 1))
done
address=$(sed -n 's/.*"grpc": *"\([^"]*\)".*/\1/p' "$scratch/ports.json")

show() {
  printf '\n$ moescope %s\n' "$*"
  build/default/client/moescope --server="$address" "$@"
}

show server info
show models list
for model in tiny-mixtral tiny-deepseek; do
  say "$model"
  show models load "$model"
  show trace "$model" --text "As an open source alternative to"
  show similarity "$model" --level matrix --projections gate_proj
  show neurons "$model" --text "As an open source alternative to"
done

say "the same question again comes from the cache"
show trace tiny-mixtral --text "As an open source alternative to"
show server cache

say "done"
