#!/bin/sh
# Installs the Debian 12 packages that the named groups of deploy/packages.txt
# list, and only those that are missing:
#
#   deploy/setup.sh [GROUP...]      default: build test
#
# With the group `test` it also unpacks the Prometheus program into
# ${MOESCOPE_TOOLS:-~/.cache/moescope}, which needs no root: installing Debian's
# package would start a Prometheus service on this machine.
#
# Runs as root, or as a user with sudo; says what it is about to do; a second
# run finds nothing to do and takes no time.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
groups=${*:-build test}
tools=${MOESCOPE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/moescope}

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

packages_of() { # GROUP: its packages, one per line
  awk -v group="$1" '$1 == group { print $2 }' "$here/packages.txt"
}

missing_of() { # PACKAGE...: those that are not installed, on one line
  dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
    awk -v wanted="$*" '
      $2 == "installed" { have[$1] = 1 }
      END {
        n = split(wanted, name, " ")
        for (i = 1; i <= n; i++)
          if (!(name[i] in have)) printf "%s ", name[i]
      }'
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    fail "must run as root, or sudo must be installed, to run: $*"
  fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq \
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}

# One refresh of the package lists per run, tried twice: mirrors do hiccup.
lists_fresh=no
refresh_lists() {
  [ "$lists_fresh" = no ] || return 0
  say "refreshing the package lists"
  apt update || {
    say "apt-get update failed; trying once more"
    sleep 5
    apt update || fail "apt-get update failed twice"
  }
  lists_fresh=yes
}

install_packages() { # GROUP...
  wanted=
  for group in "$@"; do
    of_group=$(packages_of "$group" | tr '\n' ' ')
    [ -n "$of_group" ] || fail "unknown group '$group'; packages.txt has: $(
      awk '/^[a-z]/ { print $1 }' "$here/packages.txt" | sort -u | tr '\n' ' ')"
    wanted="$wanted $of_group"
  done
  # shellcheck disable=SC2086  # a list of words on purpose, here and below
  missing=$(missing_of $wanted)
  if [ -z "$missing" ]; then
    say "packages of '$*': all installed"
    return 0
  fi
  say "installing $(echo "$missing" | wc -w) packages of '$*': $missing"
  refresh_lists
  # shellcheck disable=SC2086
  apt install -y --no-install-recommends $missing >/dev/null ||
    fail "apt-get install failed; the lines above say why"
  # shellcheck disable=SC2086
  missing=$(missing_of $missing)
  [ -z "$missing" ] || fail "still not installed: $missing"
}

unpack_prometheus() {
  program=$tools/prometheus/usr/bin/prometheus
  if command -v prometheus >/dev/null 2>&1 || [ -x "$program" ]; then
    say "prometheus: present"
    return 0
  fi
  say "unpacking the prometheus program into $tools/prometheus"
  mkdir -p "$tools"
  scratch=$(mktemp -d "$tools/unpack.XXXXXX")
  # A lack of Prometheus costs one test, which says so, and not the run.
  if (cd "$scratch" && { apt_download || { refresh_lists && apt_download; }; }) &&
    dpkg-deb -x "$scratch"/prometheus_*.deb "$scratch/root"; then
    rm -rf "$tools/prometheus"
    mv "$scratch/root" "$tools/prometheus"
  else
    say "prometheus could not be downloaded: the dashboard test will be left out"
  fi
  rm -rf "$scratch"
}

# As the invoking user: the download itself needs no privileges.
apt_download() { apt-get -qq -o APT::Sandbox::User=root download prometheus; }

command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1 ||
  fail "this needs Debian 12 (apt-get, dpkg); elsewhere, see deploy/packages.txt"

# shellcheck disable=SC2086
install_packages $groups
case " $groups " in *" test "*) unpack_prometheus ;; esac
