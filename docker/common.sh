# shellcheck shell=bash
# Shared by the scripts in docker/: messages, errors, root privileges, Debian packages.
# Sourced, never run. Every script that sources it uses these exit statuses:
#   0  done, or nothing to do
#   1  failed; the message names what failed, with the last lines of its log
#   2  invalid arguments
#   3  not possible as this user or on this machine; the commands to paste are printed

# Progress goes to stderr, so that stdout carries only results.
say() { printf 'shed: %s\n' "$*" >&2; }

# fail STATUS MESSAGE [COMMAND]...   prints what failed and why, then the commands that fix it, one per line.
fail() {
  local status=$1 message=$2
  shift 2
  printf 'shed: %s\n' "$message" >&2
  if (($# > 0)); then
    printf '  paste this:\n' >&2
    printf '    %s\n' "$@" >&2
  fi
  exit "$status"
}

# show_log FILE [LINES]   prints the last lines of FILE, indented, before an error they explain. dockerd's info messages are left out.
show_log() {
  local file=$1 lines=${2:-15}
  [[ -s $file ]] || return 0
  printf '  the last lines of its log:\n' >&2
  { grep -v 'level=info' "$file" || true; } | tail -n "$lines" | sed 's/^/    /' >&2
}

is_root() { ((EUID == 0)); }

can_be_root() { is_root || sudo -n true 2>/dev/null; }

# as_root COMMAND...   runs it directly for root, through `sudo -n` (which never asks) for other users.
as_root() {
  if is_root; then "$@"; else sudo -n "$@"; fi
}

# The prefix for a printed command that needs root.
sudo_word() { if is_root; then printf ''; else printf 'sudo '; fi; }

# `command -v`, also in sbin, where daemons are and which is not in every user's PATH.
have() { PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

has_package_lists() { compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; }

# apt_install WHY PACKAGE...   installs without recommended packages. The package lists are fetched if there are none, and once more
# if the installation fails (an old list names files that the mirror has removed).
apt_install() {
  local why=$1 log
  shift
  local -a get=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120)
  local paste
  paste="$(sudo_word)apt-get update && $(sudo_word)apt-get install -y --no-install-recommends $*"

  have apt-get || fail 3 "$why needs the Debian packages $*, and this machine has no apt-get; install the equivalent packages with its own package manager"
  can_be_root || fail 3 "$why needs the Debian packages $*, and installing them needs root (sudo -n is refused)" "$paste"

  say "installing $* ($why)"
  log=$(mktemp "${TMPDIR:-/tmp}/shed-apt.XXXXXX")
  if ! has_package_lists; then
    as_root "${get[@]}" update >>"$log" 2>&1 || true # the installation below reports what is missing
  fi
  if ! as_root "${get[@]}" install -y --no-install-recommends "$@" >>"$log" 2>&1; then
    if ! { as_root "${get[@]}" update && as_root "${get[@]}" install -y --no-install-recommends "$@"; } >>"$log" 2>&1; then
      show_log "$log"
      fail 1 "apt-get could not install $* ($why); the whole log is $log" "$paste"
    fi
  fi
  rm -f "$log"
}

# install_wheels DIR PACKAGE...   installs Python programs into DIR/bin; run them with PYTHONPATH=DIR. Wheels only: a source package
# could download its binary from somewhere else.
install_wheels() {
  local dir=$1
  shift
  if python3 -m venv "$dir"; then
    "$dir/bin/python" -m pip install --disable-pip-version-check --only-binary :all: "$@"
  else # Debian's python3 without python3-venv may still have pip
    rm -rf "$dir"
    python3 -m pip install --disable-pip-version-check --only-binary :all: --target "$dir" "$@"
  fi
}

# cargo_tool NAME VERSION [OPTION]...   makes `cargo NAME` available: the machine's, whatever its version, else this version, built
# once into target/tools/NAME. OPTIONs go to `cargo install`.
cargo_tool() {
  local name=$1 version=$2 dir=$PWD/target/tools/$1 log=$PWD/target/tools/$1.log
  shift 2
  if cargo "$name" --version >/dev/null 2>&1; then return; fi
  PATH=$dir/bin:$PATH
  if cargo "$name" --version 2>/dev/null | grep -qF "$version"; then return; fi
  mkdir -p target/tools
  say "building cargo-$name $version into target/tools/$name"
  if ! cargo install --quiet --locked --force --root "$dir" --target-dir "$dir/build" "$@" "cargo-$name@$version" >"$log" 2>&1; then
    show_log "$log"
    fail 1 "cargo-$name $version could not be built"
  fi
  rm -rf "$dir/build"
}
