#!/usr/bin/env bash
# The server of this checkout, in the background: what `make run`, `make stop` and `make uninstall` do.
#
#   docker/run.sh run         starts the server if it does not run, or runs an older build; makes the shed `demo`; says how to go on
#   docker/run.sh stop        ends the server, and the Docker engine if shed started it; sheds come back with the next `run`
#   docker/run.sh uninstall   removes everything shed made here; asks before it removes volumes (YES=1 answers for you)
#   docker/run.sh status      one line; exit status 0 when the server answers
#
# Exit status: 0 done or already so · 1 failed, with the last log lines · 2 wrong arguments
#              3 needs root or a decision of yours; the commands are printed
#
# Where systemd is process 1 and this is root, the server is the unit shed-server.service. Elsewhere it is a background process
# whose small parent starts it again when it dies. Nothing is kept about what should run but files that are checked
# before they are believed: a pid file counts only while the process behind it is the one it was written for.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
self=$here/$(basename "${BASH_SOURCE[0]}")
root=$(cd "$here/.." && pwd)
# shellcheck source=docker/common.sh
. "$here/common.sh"

programs=$(readlink -m "${SHED_PROGRAMS:-$root/target/release}") # SHED_PROGRAMS: where a test has them
readonly programs
readonly server=$programs/shed-server
readonly shed=$programs/shed
readonly unit=shed-server.service
readonly unit_file=/etc/systemd/system/$unit
readonly ready_limit=30 # seconds until a started server must serve; it takes less than one
readonly stop_limit=30  # seconds for the drain

# SHED_RUN_DIR puts everything into one directory instead, for a second server beside the first. Its server.toml is the
# configuration, if there is one; the engine, which others use too, is never stopped.
options=()
if [[ -n ${SHED_RUN_DIR:-} ]]; then
  data_dir=$SHED_RUN_DIR/data
  state_dir=$SHED_RUN_DIR/state
  socket=$SHED_RUN_DIR/shed.sock
  if [[ -e $SHED_RUN_DIR/server.toml ]]; then options=(--config "$SHED_RUN_DIR/server.toml"); fi
elif is_root; then
  data_dir=/var/lib/shed
  state_dir=/var/lib/shed-run
  socket=/run/shed/shed.sock
else
  data_dir=${XDG_DATA_HOME:-$HOME/.local/share}/shed
  state_dir=${XDG_STATE_HOME:-$HOME/.local/state}/shed
  socket=${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/shed/shed.sock}
  socket=${socket:-$data_dir/shed.sock}
fi
readonly data_dir state_dir socket options
readonly pid_file=$state_dir/pid         # "PID STARTTIME" of the supervisor
readonly address_file=$state_dir/address # what the server is told: one `--http A --ssh A` line
readonly ready_file=$state_dir/ready
readonly log_file=$state_dir/log

usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$self" | sed '/^Where systemd/,$d' >&2
  exit 2
}

# --- looking ------------------------------------------------------------------------------------------------------------------

# Start time of PID in clock ticks since boot: with the number it names one process for ever. Nothing when it is gone.
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  awk '{ print $20 }' <<<"${stat##*) }"
}

# Prints the supervisor's pid, if the one in the pid file is alive and is that one.
supervisor() {
  local pid started
  [[ -r $pid_file ]] && read -r pid started <"$pid_file" || return 1
  [[ -n $started && $(start_time "$pid") == "$started" ]] || return 1
  printf '%s\n' "$pid"
}

# Prints the pid of a server that outlived its supervisor.
orphan() {
  local pid
  pid=$(ready pid)
  [[ -n $pid && $(readlink "/proc/$pid/exe" 2>/dev/null) == */shed-server* ]] || return 1
  printf '%s\n' "$pid"
}

by_systemd() { is_root && [[ -d /run/systemd/system && -z ${SHED_RUN_DIR:-} ]]; }

answers() { [[ -S $socket ]] && "$shed" --server "unix:$socket" --json server ping >/dev/null 2>&1; }

# ready KEY   a value of the running server's ready file.
ready() { sed -n "s/.*\"$1\":\"\\{0,1\\}\\([^,\"}]*\\).*/\\1/p" "$ready_file" 2>/dev/null; }

# Whether the server that runs is another build than the one here: cargo replaces a program, it does not rewrite it.
is_older_build() {
  local pid
  pid=$(ready pid)
  [[ -n $pid && $(readlink "/proc/$pid/exe" 2>/dev/null) != "$server" ]]
}

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port WHAT FIRST   the first port from FIRST on where nobody listens; says so when it is another than the usual.
free_port() {
  local port
  for ((port = $2; port < $2 + 100; port++)); do
    if ! port_is_taken "$port"; then
      if ((port != $2)); then say "port $2 is in use; $1 listens at $port instead"; fi
      printf '%s\n' "$port"
      return
    fi
  done
  fail 1 "no free port from $2 to $((port - 1)) for $1" "ss -ltnp"
}

# --- run ----------------------------------------------------------------------------------------------------------------------

run() {
  [[ -x $server && -x $shed ]] || fail 1 'the programs are not built' 'make build'
  mkdir -p "$state_dir"
  exec 9>"$state_dir/lock"
  flock 9 # two runs at once take turns; the second finds the first one's server
  if answers && is_older_build; then
    say 'a newer build is here: starting the server again; sheds go on'
    end_server
  fi
  if answers; then
    say "the server runs (pid $(ready pid))"
  else
    end_server # a supervisor without a server that answers
    start_server
  fi
  demo
}

start_server() {
  local end
  rm -f "$ready_file"
  # The addresses of last time, if they are free: clients know them.
  if ! { [[ -s $address_file ]] && addresses_are_free; }; then
    local http ssh
    http=$(free_port HTTP 8080)
    ssh=$(free_port SSH 2222)
    printf -- '--http 127.0.0.1:%s --ssh 127.0.0.1:%s\n' "$http" "$ssh" >"$address_file"
  fi
  if by_systemd; then start_unit; else start_process; fi
  end=$((SECONDS + ready_limit))
  until [[ -s $ready_file ]] && answers; do
    if ((SECONDS >= end)) || ! is_starting; then
      show_server_log
      fail 1 'the server did not start' "$server serve --data-dir $data_dir"
    fi
    sleep 0.05
  done
  say "the server runs (pid $(ready pid), HTTP $(ready http), SSH $(ready ssh))"
}

is_starting() {
  if by_systemd; then
    [[ $(systemctl is-active "$unit") != failed ]]
  else
    supervisor >/dev/null
  fi
}

addresses_are_free() {
  local http ssh
  read -r _ http _ ssh <"$address_file" || return 1
  ! port_is_taken "${http##*:}" && ! port_is_taken "${ssh##*:}"
}

start_unit() {
  cat >"$unit_file" <<END
[Unit]
Description=shed: persistent, isolated sessions for coding agents
Wants=docker.service network-online.target
After=docker.service network-online.target

[Service]
ExecStart=$server serve --data-dir $data_dir --socket $socket --ready-file $ready_file $(<"$address_file")
Environment=HOME=$HOME
Restart=always
RestartSec=1
KillMode=process
TimeoutStopSec=$stop_limit
LimitNOFILE=524288

[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable --quiet "$unit"
  systemctl restart "$unit"
}

start_process() {
  if [[ -s $log_file ]]; then mv "$log_file" "$log_file.1"; fi
  # Its own session and no terminal, so that it outlives this shell; no inherited descriptor, the lock among them.
  (
    cd /
    exec </dev/null >"$log_file" 2>&1 9>&-
    for fd in /proc/self/fd/*; do
      if ((${fd##*/} > 2)); then eval "exec ${fd##*/}>&-"; fi
    done
    exec setsid bash "$self" supervise
  ) &
  local pid=$!
  printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$pid_file.new"
  mv "$pid_file.new" "$pid_file"
}

# Starts the server again when it dies. Told to end, it ends the server first.
supervise() {
  local pid='' pause=1 status began
  trap 'if [[ -n $pid ]]; then kill -TERM "$pid" 2>/dev/null; wait "$pid"; fi; exit 0' TERM INT
  while true; do
    began=$SECONDS
    # shellcheck disable=SC2046 # the file holds words
    "$server" "${options[@]}" serve --data-dir "$data_dir" --socket "$socket" --ready-file "$ready_file" $(<"$address_file") &
    pid=$!
    status=0
    wait "$pid" || status=$?
    pid=''
    # 0: told to end. 2 and 4: wrong configuration, or another server: trying again would not help.
    case $status in 0 | 2 | 4) exit "$status" ;; esac
    if ((SECONDS - began > 60)); then pause=1; fi
    say "the server ended with $status; starting it again in $pause s"
    sleep "$pause" & # a signal is heard while `wait` waits, not while `sleep` sleeps
    wait $!
    pause=$((pause < 10 ? pause * 2 : 10))
  done
}

show_server_log() { if by_systemd; then journalctl -u "$unit" -n 15 --no-pager -o cat >&2 || true; else show_log "$log_file"; fi; }

client() { "$shed" --server "unix:$socket" "$@"; }

demo() {
  local status ssh_port http_port word
  status=$(client --json show demo 2>/dev/null | sed -n 's/^  "status": "\(.*\)",$/\1/p') || true
  case $status in
    running) ;;
    '') client create demo >/dev/null ;;
    failed) client create demo --retry >/dev/null || client start demo >/dev/null ;;
    *) client start demo >/dev/null ;;
  esac
  client --json sessions demo | grep -q '"name": "default"' || client sessions new demo default >/dev/null
  say 'a command in the session "default" of the shed "demo":'
  # shellcheck disable=SC2016 # for the shell in the shed
  client exec demo -S default -- sh -c 'echo "hello from $(hostname), $(. /etc/os-release; echo "$PRETTY_NAME")"'
  echo
  client sessions
  ssh_port=$(ready ssh)
  ssh_port=${ssh_port##*:}
  http_port=$(ready http)
  word=${shed#"$PWD/"}
  if [[ $socket != /run/shed/shed.sock && $socket != "${XDG_RUNTIME_DIR:-}/shed/shed.sock" ]]; then
    word="$word -s unix:$socket"
  fi
  cat <<END

Three ways to attach (Ctrl-B D leaves; nothing ends):
  $word attach demo
  ssh -t -p $ssh_port demo+default@127.0.0.1
  $word ssh-config --install && ssh shed-demo        for editors too: VS Code, Zed, JetBrains

And for programs: curl --unix-socket $socket http://localhost/api/sessions      docs: http://$http_port/api/docs
END
  if ! compgen -G "$HOME/.ssh/id_*.pub" >/dev/null; then
    say "ssh needs a key, and there is none in ~/.ssh; paste this:"
    printf '    %s\n' "ssh-keygen -t ed25519" "${server#"$PWD/"} key add me ~/.ssh/id_ed25519.pub --scope admin --data-dir $data_dir" >&2
  fi
}

# --- stop and uninstall -------------------------------------------------------------------------------------------------------

end_server() {
  local pid end
  if by_systemd && [[ -e $unit_file ]]; then
    systemctl stop "$unit"
    return
  fi
  pid=$(supervisor || orphan) || return 0
  kill -TERM "$pid" 2>/dev/null || true
  end=$((SECONDS + stop_limit))
  # A zombie has ended; its parent may reap it late.
  while [[ -e /proc/$pid && $(cat "/proc/$pid/stat" 2>/dev/null) != *') Z '* ]]; do
    if ((SECONDS >= end)); then
      show_server_log
      fail 1 "the server (pid $pid) did not end within $stop_limit s of SIGTERM" "kill -KILL $pid"
    fi
    sleep 0.05
  done
  rm -f "$pid_file"
}

stop() {
  if supervisor >/dev/null || orphan >/dev/null || { by_systemd && systemctl is-active --quiet "$unit"; }; then
    end_server
    say 'stopped the server'
  else
    say 'no server that "make run" started is running'
  fi
  if [[ -z ${SHED_RUN_DIR:-} ]]; then "$here/engine.sh" stop; fi
}

# labelled LIST...   what the engine lists with this server's label, one a line. Nothing is taken for gone that was not asked for.
labelled() {
  docker "$@" -q --filter "label=shed.server=$id" || fail 1 'the Docker engine does not say what is left; nothing more was removed'
}

uninstall() {
  local id='' answer='' left
  local -a volumes=() containers=() networks=()
  id=$(cat "$data_dir/server_id" 2>/dev/null) || true
  # Without an engine nobody knows which containers and volumes are left, and the id in the data directory is all that finds them.
  if [[ -n $id ]] && ! docker version >/dev/null 2>&1 && ! "$here/engine.sh" ensure; then
    fail 3 "sheds of this server may be left, and no Docker engine answers; nothing was removed" \
      "$here/engine.sh ensure" "$self uninstall"
  fi
  end_server
  if by_systemd && [[ -e $unit_file ]]; then
    systemctl disable --quiet "$unit"
    rm -f "$unit_file"
    systemctl daemon-reload
  fi
  if [[ -n $id ]]; then
    left=$(labelled ps -a)
    mapfile -t containers < <(printf '%s' "$left")
    if ((${#containers[@]})); then docker rm -f "${containers[@]}" >/dev/null; fi
    say "removed ${#containers[@]} containers"
    left=$(labelled network ls)
    mapfile -t networks < <(printf '%s' "$left")
    if ((${#networks[@]})); then docker network rm "${networks[@]}" >/dev/null; fi
    left=$(labelled volume ls)
    mapfile -t volumes < <(printf '%s' "$left")
  fi
  if ((${#volumes[@]})); then
    if [[ ${YES:-} == 1 ]]; then
      answer=y
    elif [[ -t 0 ]]; then
      printf 'The volumes of your sheds hold their work:\n' >&2
      printf '  %s\n' "${volumes[@]}" >&2
      read -r -p 'Remove them for ever? [y/N] ' answer
    fi
    if [[ $answer != [yY]* ]]; then
      say "kept ${#volumes[@]} volumes, and $data_dir, which knows whose they are; to remove them: YES=1 make uninstall"
      rm -rf "$state_dir"
      if [[ -z ${SHED_RUN_DIR:-} ]]; then "$here/engine.sh" stop; fi
      return
    fi
    docker volume rm "${volumes[@]}" >/dev/null
    say "removed ${#volumes[@]} volumes"
  fi
  rm -rf "$state_dir" "$data_dir" "$socket"
  if docker version >/dev/null 2>&1; then
    local images
    mapfile -t images < <(docker images -q --filter label=shed.image | sort -u)
    if [[ -z ${SHED_RUN_DIR:-} ]] && ((${#images[@]})); then docker rmi -f "${images[@]}" >/dev/null; fi
  fi
  if [[ -z ${SHED_RUN_DIR:-} ]]; then "$here/engine.sh" forget; fi
  say 'removed; Debian packages (docker.io, mmdebstrap) stay, and so does this checkout'
}

status() {
  if answers; then
    printf 'the server runs (pid %s, socket %s, HTTP %s, SSH %s)\n' "$(ready pid)" "$socket" "$(ready http)" "$(ready ssh)"
  else
    printf 'the server does not run; start it: make run\n'
    return 1
  fi
}

(($# == 1)) || usage
case $1 in
  run) run ;;
  stop) stop ;;
  uninstall) uninstall ;;
  status) status ;;
  supervise) supervise ;;
  *) usage ;;
esac
