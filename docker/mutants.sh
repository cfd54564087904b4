#!/usr/bin/env bash
# Measures how well unit tests check the code they stand beside: cargo-mutants puts one small fault after another into the code and
# runs the tests; a fault that no test notices is printed. Fails if the tests notice less than the wanted share.
#
#   docker/mutants.sh [OPTION]...   OPTIONs go to `cargo mutants`, for example --file internal/model/src/shed/life.rs
#
# Environment:
#   MUTANTS_PACKAGES   the crates, separated by spaces (default: shed-model shed-agents)
#   MUTANTS_SHARE      the wanted share in percent (default: 95)
#   MUTANTS_JOBS       tests that run at once (default: 2)
#
# Takes minutes to an hour and is not part of `make test`. Reports go to target/mutants/mutants.out.
#
# Exit status: 0 enough is noticed · 1 too little is noticed, or the tests fail without any fault · 2 wrong arguments
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/common.sh
. "$here/common.sh"
cd "$here/.."

readonly mutants_version=27.1.0
# A unit test of a pure crate takes milliseconds; a fault that makes a loop endless ends here, and counts as noticed.
readonly limit_seconds=60

read -ra packages <<<"${MUTANTS_PACKAGES:-shed-model shed-agents}"
wanted=${MUTANTS_SHARE:-95}
((${#packages[@]})) && [[ $wanted =~ ^[0-9]+$ ]] || fail 2 'MUTANTS_PACKAGES needs a crate, MUTANTS_SHARE a whole number of percent'

cargo_tool mutants "$mutants_version" --debug

declare -a options=()
for package in "${packages[@]}"; do options+=(--package "$package"); done
mkdir -p target/mutants
rm -rf target/mutants/mutants.out
# Each job builds its own copy of the tree. In a target directory that all of them share, one would run the other's faults.
unset CARGO_TARGET_DIR
# It also fails when there is a fault that no test notices; the share decides here.
status=0
cargo mutants "${options[@]}" --output target/mutants --jobs "${MUTANTS_JOBS:-2}" --timeout "$limit_seconds" \
  --cap-lints true --cargo-arg=--lib "$@" || status=$?
case $status in
  0 | 2 | 3) ;; # all noticed, some not noticed, some ended by the limit
  *) fail 1 "cargo mutants failed with status $status; see target/mutants/mutants.out" ;;
esac

# count NAME   a number of the report.
count() { sed -nE "s/^ *\"$1\": ([0-9]+).*/\1/p" target/mutants/mutants.out/outcomes.json | tail -n 1; }
caught=$(($(count caught) + $(count timeout)))
all=$((caught + $(count missed)))
((all)) || fail 1 'no fault could be put into the code'
share=$((100 * caught / all))
say "the unit tests of ${packages[*]} notice $caught of $all faults: $share %"
((share >= wanted)) || fail 1 "fewer than $wanted % are noticed; those that are not: target/mutants/mutants.out/missed.txt"
