#!/usr/bin/env bash
# Runs the tests, with nextest where it is installed, and ends with a plain summary.
#
#   docker/test.sh all      builds everything without a warning, then all three rings
#   docker/test.sh values   pure rules and single parts
#   docker/test.sh doors    HTTP, SSH and the client on the process engine, with real tmux and the real OpenSSH client
#   docker/test.sh tour     the programs on a real Docker engine
#
# Installs what is missing: tmux, the OpenSSH client, rsync; for `tour` also the engine, nft and the images it
# needs.
# Exit status: 0 all passed · 1 something failed · 2 wrong arguments · 3 something is missing; the commands are printed
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/common.sh
. "$here/common.sh"
cd "$here/.."

tools() {
  local -a missing=()
  have tmux || missing+=(tmux)
  have ssh || missing+=(openssh-client)
  have rsync || missing+=(rsync)
  have git || missing+=(git)
  if ((${#missing[@]})); then apt_install 'for the tests' "${missing[@]}"; fi
}

# What judges the SSH door's algorithms. Later versions warn of every key exchange that both the OpenSSH of Debian 12 and ours
# know: the one has no other post-quantum exchange than sntrup761, the other none but mlkem768.
readonly audit_pin=ssh-audit==3.3.0
# What compares the server with its OpenAPI document, and what makes a client from the document.
readonly api_pins=(schemathesis==4.32.5 openapi-python-client==0.29.1)

# python_tools NAME PIN...   installs Python programs into target/tools/NAME, once for each set of pins.
python_tools() {
  local name=$1 dir=target/tools/$1 log=target/tools/$1.log
  shift
  if [[ -r $dir/pin && $(<"$dir/pin") == "$*" ]]; then return; fi
  have python3 || apt_install "for $name" python3 python3-venv
  mkdir -p target/tools
  rm -rf "$dir"
  say "installing $* into $dir"
  if ! install_wheels "$dir" "$@" >"$log" 2>&1; then
    show_log "$log"
    fail 1 "$* could not be installed" "$(sudo_word)apt-get install -y --no-install-recommends python3-venv"
  fi
  echo "$*" >"$dir/pin"
}

engine() {
  python_tools ssh-audit "$audit_pin"
  python_tools api "${api_pins[@]}"
  "$here/engine.sh" ensure
  have nft || apt_install 'for the tests of firewall rules' nftables
  "$here/image.sh" base
  "$here/image.sh" test-images
}

# Builds all there is; a warning is a failure. cargo repeats the warnings of what it does not build again.
build() {
  local log
  log=$(mktemp "${TMPDIR:-/tmp}/shed-build.XXXXXX")
  cargo build --workspace --all-targets 2>&1 | tee "$log" >&2
  if grep -q '^warning' "$log"; then
    rm -f "$log"
    fail 1 'the build has warnings'
  fi
  rm -f "$log"
}

# select_ring RING   the test programs of a ring as options of both `cargo test` and `cargo nextest run`, one per line. A new
# integration test belongs to the doors ring unless it is called `tour`.
select_ring() {
  case $1 in
    values) printf '%s\n' --lib --bins ;;
    doors)
      cargo metadata --no-deps --format-version 1 | grep -oE '"kind":\["test"\],"crate_types":\["bin"\],"name":"[^"]+"' |
        sed -E 's/.*"name":"([^"]+)"/--test=\1/' | grep -vx -e '--test=tour' | sort -u
      ;;
    tour) printf '%s\n' --test=tour ;;
  esac
}

# memory_dir   prints a new directory in memory in which programs can be started and that has 2 GiB of room; fails if there
# is none. The tests of the doors ring sync hundreds of databases and logs, which takes a third of their time on a disk.
memory_dir() {
  local dir
  # A short name: a path of a socket has at most 107 bytes.
  dir=$(mktemp -d /dev/shm/s.XXXXXX 2>/dev/null) || return 1
  # As /tmp: some tests run programs as another user.
  chmod 1777 "$dir"
  printf '#!/bin/sh\n' >"$dir/program"
  chmod +x "$dir/program"
  if "$dir/program" 2>/dev/null && (($(df --output=avail -B1M "$dir" | tail -1) >= 2048)); then
    rm "$dir/program"
    printf '%s\n' "$dir"
  else
    rm -r "$dir"
    return 1
  fi
}

# run RING   its tests. Tests of the doors ring mostly wait for processes, so twice as many run at once as there are
# processors. Tests of the tour ring make containers of their own; more at once only wait for each other.
run() {
  local -a programs options=()
  mapfile -t programs < <(select_ring "$1")
  ((${#programs[@]})) || fail 1 "the ring $1 has no test programs"
  [[ $1 != doors ]] || options=(--test-threads "$((2 * $(nproc)))")
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --no-fail-fast --workspace "${options[@]}" "${programs[@]}"
  else
    [[ $1 != tour ]] || options=(--test-threads 4)
    cargo test --no-fail-fast --workspace "${programs[@]}" -- "${options[@]}"
  fi
}

declare -a passed=() failed=()
ring() {
  local began=$SECONDS dir=''
  if [[ $1 == doors ]] && dir=$(memory_dir); then
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$dir'" EXIT
  fi
  if TMPDIR=${dir:-${TMPDIR:-/tmp}} run "$1"; then
    passed+=("$1 ($((SECONDS - began)) s)")
  else
    failed+=("$1 ($((SECONDS - began)) s)")
  fi
}

(($# == 1)) || { sed -n '2,/^# Exit/s/^# \{0,1\}//p' "$here/test.sh" >&2; exit 2; }
tools
case $1 in
  all)
    engine
    build
    for one in values doors tour; do ring "$one"; done
    ;;
  values | doors)
    cargo build --workspace --bins
    ring "$1"
    ;;
  tour)
    engine
    cargo build --workspace --bins
    ring tour
    ;;
  *) fail 2 "no ring $1: all, values, doors or tour" ;;
esac

printf '\n'
for one in "${passed[@]}"; do printf 'passed  %s\n' "$one"; done
for one in "${failed[@]}"; do printf 'FAILED  %s\n' "$one"; done
((${#failed[@]} == 0))
