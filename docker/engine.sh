#!/usr/bin/env bash
# Makes sure that a Docker engine answers, on a machine with or without systemd.
#
#   docker/engine.sh ensure   nothing to do if an engine answers; else installs Debian's docker.io and iptables when they are
#                             missing, starts the engine and waits until it answers (60 s at most)
#   docker/engine.sh stop     stops the engine if `ensure` started it; never one that something else started
#   docker/engine.sh forget   the same, and removes the pid file and the logs
#   docker/engine.sh status   one line; exit status 0 when an engine answers, 1 when none does
#
# Exit status: 0 done or nothing to do · 1 failed, with the last log lines · 2 invalid arguments
#              3 needs root or a decision by you; the commands are printed
#
# With systemd as process 1 the distribution's unit is used. Otherwise dockerd runs in the background in its own session, with its
# pid file and log in /var/lib/shed-engine (or SHED_ENGINE_DIR). Containers end with the engine: no live-restore.
#
# Observed on a minimal Debian 12 (dockerd 20.10, runc 1.1, cgroup v1, kernel 6.18) without systemd:
#  - dockerd needs the iptables command for its bridge and nothing else: no cgroupfs-mount, apparmor or modprobe where the cgroups
#    are mounted and overlayfs is built in. It answers 0.5 s after its start.
#  - Containers reach what the host reaches, DNS included, over the default bridge: `--network host` is not needed for apt.
#  - A bridge made with enable_icc=false gets `FORWARD -i br -o br -j DROP`, and it does drop. The host still reaches containers.
#  - --memory and --pids-limit are enforced (OOM kill with OOMKilled=true, fork answers EAGAIN).
#  - /var/run may be on disk, so its pid files survive a reboot and may name an unrelated process. dockerd refuses to start if *any*
#    process has that number; so stale pid files are removed below.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
self=$here/$(basename "${BASH_SOURCE[0]}")
# shellcheck source=docker/common.sh
. "$here/common.sh"

readonly state_dir=${SHED_ENGINE_DIR:-/var/lib/shed-engine}
readonly pid_file=$state_dir/pid     # "PID STARTTIME KIND": KIND is `process` or `systemd`
readonly log_file=$state_dir/log
readonly lock_file=$state_dir/lock
readonly socket=/var/run/docker.sock # where an engine started here listens
readonly ready_limit=60              # seconds; a first start on a slow disk may take some of them
readonly stop_limit=60               # seconds; containers get 10 s to end, in parallel

usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$self" | sed '/^With systemd/,$d' >&2
  exit 2
}

# --- is there an engine? ------------------------------------------------------------------------------------------------------

# Prints the engine's version; on failure prints the client's error on stderr. `timeout`: with a DOCKER_HOST that drops packets the
# client would hang for minutes. A dockerd whose containerd died answers, but runs nothing until it has started another; its list of
# components shows this (other engines, such as Podman, list neither).
engine_version() {
  local answer
  answer=$(timeout 10 docker version --format '{{.Server.Version}}{{range .Server.Components}} {{.Name}}{{end}}') || return
  if [[ $answer == *' Engine'* && $answer != *' containerd'* ]]; then
    echo 'dockerd answers, but its containerd does not' >&2
    return 1
  fi
  printf '%s\n' "${answer%% *}"
}

# The address the docker client uses: DOCKER_HOST, or that of the current context.
endpoint() {
  local address=${DOCKER_HOST:-}
  if [[ -z $address ]] && have docker; then
    address=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true)
  fi
  if [[ -z $address && -n ${DOCKER_CONTEXT:-} ]]; then
    address="docker context $DOCKER_CONTEXT"
  fi
  printf '%s' "${address:-unix://$socket}"
}

is_our_endpoint() { [[ $1 == "unix://$socket" || $1 == "unix:///run/docker.sock" ]]; }

# --- processes ----------------------------------------------------------------------------------------------------------------

# Start time of PID in clock ticks since boot; together with the PID it identifies a process uniquely. Prints nothing if it has ended.
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  # The command name, in parentheses, may contain spaces: count the fields after it. Field 22 is the 20th of those.
  awk '{ print $20 }' <<<"${stat##*) }"
}

# is_alive_as PID NAME   A zombie is not alive: if process 1 does not reap, a killed dockerd stays a zombie.
is_alive_as() {
  local stat
  [[ -n ${1:-} ]] && stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  [[ $stat == *"($2)"* && ${stat##*) } != Z* ]]
}

pid_in() { { tr -cd '0-9' <"$1"; } 2>/dev/null || true; }

# Prints "PID KIND" of the engine that `ensure` started, if it still runs.
our_engine() {
  local pid started kind
  [[ -r $pid_file ]] || return 1
  read -r pid started kind <"$pid_file" || return 1
  is_alive_as "$pid" dockerd && [[ $(start_time "$pid") == "$started" ]] || return 1
  printf '%s %s\n' "$pid" "$kind"
}

remember() {
  printf '%s %s %s\n' "$1" "$(start_time "$1")" "$2" >"$pid_file.new"
  mv "$pid_file.new" "$pid_file"
}

has_systemd() { [[ -d /run/systemd/system ]]; }

show_engine_log() {
  if has_systemd; then
    journalctl -u docker -n 15 --no-pager -o cat >&2 || true
  else
    show_log "$log_file"
  fi
}

# --- ensure -------------------------------------------------------------------------------------------------------------------

ensure() {
  local version complaint where
  if have docker; then
    if version=$(engine_version 2>/dev/null); then
      return 0
    fi
    complaint=$(engine_version 2>&1 >/dev/null || true)
    where=$(endpoint)
    if [[ $complaint == *"containerd does not"* ]]; then
      say "$complaint; waiting until dockerd has restarted it (up to 15 s)"
      wait_until_ready
      return 0
    fi
    if [[ $complaint == *"permission denied"* ]]; then
      fail 3 "no permission to use the Docker engine at $where" \
        "sudo usermod -aG docker $(id -un)" 'newgrp docker   # or log in again'
    fi
    if ! is_our_endpoint "$where"; then
      fail 3 "no Docker engine answers at $where (from DOCKER_HOST or the docker context); shed starts one only at unix://$socket" \
        'unset DOCKER_HOST DOCKER_CONTEXT; docker context use default' "$self ensure"
    fi
  fi

  if ! can_be_root; then
    fail 3 "no Docker engine answers at unix://$socket, and installing or starting one needs root (sudo -n is refused)" \
      "sudo $self ensure" "sudo usermod -aG docker $(id -un) && newgrp docker"
  fi
  as_root env DOCKER_HOST="unix://$socket" SHED_ENGINE_DIR="$state_dir" bash "$self" start-as-root

  version=$(engine_version 2>&1) || fail 3 "no permission to use the Docker engine: $version" \
    "sudo usermod -aG docker $(id -un)" 'newgrp docker   # or log in again'
  say "Docker engine $version answers at $(endpoint)"
}

# The part of `ensure` that needs root. The lock serializes two of them; the second finds the engine of the first.
start_as_root() {
  is_root || fail 2 "start-as-root needs root; run: $self ensure"
  mkdir -p "$state_dir"
  exec 9>"$lock_file"
  flock 9

  install_what_is_missing
  engine_version >/dev/null 2>&1 && return 0 # the package's own scripts may have started it
  if has_systemd; then start_by_systemd; else start_by_hand; fi
}

install_what_is_missing() {
  local -a missing=()
  have dockerd || missing+=(docker.io)
  have iptables || missing+=(iptables)
  if ((${#missing[@]} > 0)); then
    apt_install 'for the Docker engine' "${missing[@]}"
  fi
  # In newer Debian releases the client is a separate package, which docker.io only recommends.
  have docker || apt_install 'the Docker client' docker-cli
}

start_by_systemd() {
  if systemctl is-active --quiet docker; then # it is starting; not started by us
    wait_until_ready
    return 0
  fi
  say 'starting the Docker engine (systemctl start docker)'
  if ! systemctl start docker; then
    show_engine_log
    fail 1 'systemd could not start docker.service' 'journalctl -u docker -n 50'
  fi
  wait_until_ready
  remember "$(systemctl show -p MainPID --value docker)" systemd
}

start_by_hand() {
  local pid running
  running=$(pid_in /var/run/docker.pid)
  if is_alive_as "$running" dockerd; then
    # It is starting, or stuck. Either way a second one would refuse to start.
    say "dockerd (pid $running) runs but does not answer yet; waiting for it"
    if wait_until_ready "$running"; then return 0; fi
    say "dockerd (pid $running) ended before it answered"
  fi
  clean_stale_pid_files

  if [[ -s $log_file ]]; then mv "$log_file" "$log_file.1"; fi
  say "starting the Docker engine in the background (log: $log_file)"
  # Its own session and no terminal, so that it outlives this shell. No inherited descriptor: neither the lock, which would block the
  # next start, nor a pipe whose reader waits for its end.
  (
    cd /
    exec </dev/null >"$log_file" 2>&1
    for fd in /proc/self/fd/*; do
      if ((${fd##*/} > 2)); then eval "exec ${fd##*/}>&-"; fi
    done
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" exec setsid dockerd
  ) &
  pid=$!
  remember "$pid" process # before it is ready: if this `ensure` is interrupted, `stop` can still find the engine
  if ! wait_until_ready "$pid"; then
    show_log "$log_file"
    fail 1 "dockerd (pid $pid) ended while starting; the whole log is $log_file" "less $log_file"
  fi
}

# Removes only files that name no running dockerd or containerd. The next dockerd reuses a containerd that outlived a killed one.
clean_stale_pid_files() {
  local file
  rm -f /var/run/docker.pid # the caller has checked that no dockerd with this pid runs
  for file in /var/run/docker/containerd/*.pid; do
    if [[ -e $file ]] && ! is_alive_as "$(pid_in "$file")" containerd; then rm -f "$file"; fi
  done
}

# wait_until_ready [PID]   asks the engine ten times a second; returns 1 as soon as PID has ended, exits when the time limit is reached.
wait_until_ready() {
  local pid=${1:-} end=$((SECONDS + ready_limit))
  until engine_version >/dev/null 2>&1; do
    # Right after the fork the process name is still that of the shell or of setsid.
    if [[ -n $pid ]] && ! is_alive_as "$pid" dockerd && ! is_alive_as "$pid" bash && ! is_alive_as "$pid" setsid; then
      return 1
    fi
    if ((SECONDS >= end)); then
      show_engine_log
      fail 1 "the Docker engine did not answer at unix://$socket within $ready_limit s" "$self status"
    fi
    sleep 0.1
  done
}

# --- stop and status ----------------------------------------------------------------------------------------------------------

stop() {
  local ours pid kind end
  if ! ours=$(our_engine); then
    say 'no Docker engine started by shed is running'
    return 0
  fi
  read -r pid kind <<<"$ours"
  if ! is_root; then
    can_be_root || fail 3 "stopping the Docker engine (pid $pid) needs root (sudo -n is refused)" "sudo $self stop"
    exec sudo -n env SHED_ENGINE_DIR="$state_dir" bash "$self" stop
  fi

  if [[ $kind == systemd ]]; then
    systemctl stop docker.socket docker.service # the socket first, otherwise the next client starts it again
  else
    kill -TERM "$pid"
  fi
  end=$((SECONDS + stop_limit))
  while is_alive_as "$pid" dockerd; do
    if ((SECONDS >= end)); then
      show_engine_log
      fail 1 "dockerd (pid $pid) did not end within $stop_limit s of SIGTERM; a container may be stuck" 'docker ps'
    fi
    sleep 0.1
  done
  rm -f "$pid_file"
  say "stopped the Docker engine (pid $pid)"
}

forget() {
  "$self" stop
  [[ -d $state_dir ]] || return 0
  if ! can_be_root; then
    say "kept $state_dir: removing it needs root (sudo -n is refused)"
    return 0
  fi
  as_root rm -f "$pid_file" "$log_file" "$log_file.1" "$lock_file"
  as_root rmdir --ignore-fail-on-non-empty "$state_dir"
}

status() {
  local version pid kind by='not started by shed' complaint
  if read -r pid kind < <(our_engine); then by="started by shed, pid $pid, $kind"; fi
  if have docker && version=$(engine_version 2>/dev/null); then
    printf 'Docker engine %s answers at %s (%s)\n' "$version" "$(endpoint)" "$by"
    return 0
  fi
  complaint=$(engine_version 2>&1 >/dev/null || true)
  if [[ $complaint == *"permission denied"* ]]; then
    printf 'no permission to use the Docker engine at %s (%s)\n' "$(endpoint)" "$by"
  elif [[ -n ${pid:-} ]]; then
    printf 'no Docker engine answers at %s, though dockerd runs (%s); its log is %s\n' "$(endpoint)" "$by" "$log_file"
  else
    printf 'no Docker engine answers at %s; to start it: %s ensure\n' "$(endpoint)" "$self"
  fi
  return 1
}

(($# == 1)) || usage
case $1 in
  ensure) ensure ;;
  stop) stop ;;
  forget) forget ;;
  status) status ;;
  start-as-root) start_as_root ;;
  *) usage ;;
esac
