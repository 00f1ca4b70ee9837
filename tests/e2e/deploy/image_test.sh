#!/bin/sh
# Builds deploy/Dockerfile without a daemon, on a base made here by debootstrap,
# and looks at the image and at what runs in it.
#
#   image_test.sh SOURCE_DIR WORK_FOLDER     (as root)
#
# Exit status 77: this machine cannot do it; the output says why.
set -eu
source_dir=${1:?SOURCE_DIR}
work=${2:?WORK_FOLDER}

skip() {
  echo "skipped: $*"
  exit 77
}
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

[ "$(id -u)" -eq 0 ] || skip "building an image in a chroot needs root"
for tool in buildah debootstrap; do
  command -v "$tool" >/dev/null 2>&1 || skip "needs $tool (deploy/setup.sh image)"
done

mkdir -p "$work"
work=$(cd "$work" && pwd)
container=
cleanup() {
  [ -z "$container" ] || builder rm "$container" >/dev/null 2>&1 || true
  rm -rf "$work/base" "$work/storage" "$work/run"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# Its own storage, so that nothing of the machine's images is seen or touched.
builder() {
  buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"
}

echo "== base"
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base" \
  >"$work/debootstrap.log" 2>&1 || {
  tail -n 5 "$work/debootstrap.log"
  skip "debootstrap could not fetch a Debian 12"
}
# The machine's way to its package mirror holds in the image's build too.
cp -r /etc/apt/apt.conf.d/. "$work/base/etc/apt/apt.conf.d/"
cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/"
container=$(builder from scratch)
builder add --quiet "$container" "$work/base" / >/dev/null
builder commit --quiet "$container" localhost/debian:bookworm >/dev/null
builder rm "$container" >/dev/null
container=
rm -rf "$work/base"

echo "== build"
# What this machine has compiled already need not be compiled again: the same
# compiler, headers and relative paths give the same object.
set -- --build-arg BASE=localhost/debian:bookworm
if cache=$(ccache -k cache_dir 2>/dev/null) && [ -d "$cache" ]; then
  set -- "$@" --volume "$cache:/ccache:ro" --build-arg \
    "CCACHE=CCACHE_DIR=/ccache CCACHE_READONLY=1 CCACHE_TEMPDIR=/tmp CCACHE_BASEDIR=/src CCACHE_NOHASHDIR=1"
fi
builder bud --isolation chroot --pull-never --layers=false "$@" \
  --ignorefile "$source_dir/deploy/Dockerfile.dockerignore" \
  --file "$source_dir/deploy/Dockerfile" --tag localhost/moescope "$source_dir"

echo "== image"
user=$(builder inspect --type image --format '{{.OCIv1.Config.User}}' localhost/moescope)
[ "$user" = 65532:65532 ] || fail "the image runs as '$user', not as 65532:65532"

echo "== programs"
container=$(builder from --pull-never localhost/moescope)
inside() { timeout 120 buildah --root "$work/storage" --runroot "$work/run" \
  --storage-driver vfs run --isolation chroot "$container" -- "$@"; }
[ "$(inside id -u)" = 65532 ] || fail "the programs do not run as 65532"
inside moescope --version
inside moescope-server --version
inside sh -c '! command -v g++ cmake' || fail "a compiler is in the image"
inside sh -c '
  set -e
  moescope-server --model_root=/models --data_dir=/data --listen=127.0.0.1:0 \
    --metrics_listen=127.0.0.1:0 --port_file=/tmp/ports &
  server=$!
  trap "kill $server 2>/dev/null || true" EXIT
  for i in $(seq 300); do
    [ -e /tmp/ports ] && break
    kill -0 $server
    sleep 0.1
  done
  moescope --server="$(sed "s/.*\"grpc\": *\"\([^\"]*\)\".*/\1/" /tmp/ports)" server info
  kill -TERM $server
  wait $server' || fail "the server in the image did not answer and stop"
echo "the image builds, runs without root and answers"
