#!/usr/bin/env bash
# The server of this checkout, in the background: what `make run`, `make stop` and `make uninstall` do.
#
#   docker/run.sh run         starts the server, or restarts one of another build; creates the shed `demo`; says how to attach
#   docker/run.sh stop        stops the server, and the Docker engine if shed started it; sheds come back with the next `run`
#   docker/run.sh uninstall   removes everything shed made here; asks before it removes volumes (YES=1 answers for you)
#   docker/run.sh status      one line; exit status 0 when the server answers
#
# Exit status: 0 done or already so · 1 failed, with the last log lines · 2 wrong arguments
#              3 needs root or a decision of yours; the commands are printed
#
# `shed-server service` starts, supervises and stops the server. This script adds the shed `demo` and what Docker keeps.
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

# SHED_RUN_DIR puts everything into one directory instead, for a second server beside the first. Its server.toml is the
# configuration, if there is one; the engine, which others use too, is never stopped.
if [[ -n ${SHED_RUN_DIR:-} ]]; then
  data_dir=$SHED_RUN_DIR/data
  state_dir=$SHED_RUN_DIR/state
else
  unset SHED_RUN_DIR # `shed-server` refuses an empty path
  if is_root; then
    data_dir=/var/lib/shed
    state_dir=/var/lib/shed-run
  else
    data_dir=${XDG_DATA_HOME:-$HOME/.local/share}/shed
    state_dir=${XDG_STATE_HOME:-$HOME/.local/state}/shed
  fi
fi
readonly data_dir state_dir

usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$self" | sed '/^`shed-server service`/,$d' >&2
  exit 2
}

# service COMMAND...   `shed-server service`, which reads SHED_RUN_DIR itself.
service() { "$server" service "$@" --data-dir "$data_dir"; }

# field NAME   a value of the running server: socket, http, ssh. Empty while there is none.
field() { service status --field "$1" || true; }

by_systemd() { is_root && [[ -d /run/systemd/system && -z ${SHED_RUN_DIR:-} ]]; }

# --- run ----------------------------------------------------------------------------------------------------------------------

run() {
  [[ -x $server && -x $shed ]] || fail 1 'the programs are not built' 'make build'
  service start || exit 1
  demo
}

demo() {
  local socket ssh_port http word
  socket=$(field socket)
  client() { "$shed" --server "unix:$socket" "$@"; }
  if ! client show demo >/dev/null 2>&1; then
    client create demo >/dev/null
  elif ! client start demo >/dev/null; then
    client create demo --retry >/dev/null # its creation failed earlier
  fi
  client sessions show demo default >/dev/null 2>&1 || client sessions new demo default >/dev/null
  say 'a command in the session "default" of the shed "demo":'
  # shellcheck disable=SC2016 # for the shell in the shed
  client exec demo -S default -- sh -c 'echo "hello from $(hostname), $(. /etc/os-release; echo "$PRETTY_NAME")"'
  echo
  client sessions
  ssh_port=$(field ssh)
  ssh_port=${ssh_port##*:}
  http=$(field http)
  word=${shed#"$PWD/"}
  if [[ $socket != /run/shed/shed.sock && $socket != "${XDG_RUNTIME_DIR:-}/shed/shed.sock" ]]; then
    word="$word -s unix:$socket"
  fi
  cat <<END

Three ways to attach (Ctrl-B D detaches; the session keeps running):
  $word attach demo
  ssh -t -p $ssh_port demo+default@127.0.0.1
  $word ssh-config --install && ssh shed-demo        for editors too: VS Code, Zed, JetBrains

And for programs: curl --unix-socket $socket http://localhost/api/sessions      docs: http://$http/api/docs
END
  if ! compgen -G "$HOME/.ssh/id_*.pub" >/dev/null; then
    say 'ssh needs a key, and there is none in ~/.ssh; paste this:'
    printf '    %s\n' "ssh-keygen -t ed25519" "${server#"$PWD/"} key add me ~/.ssh/id_ed25519.pub --scope admin --data-dir $data_dir" >&2
  fi
}

# --- stop and uninstall -------------------------------------------------------------------------------------------------------

end_server() {
  if [[ -x $server ]]; then
    service stop || exit 1
  elif [[ -e $state_dir/pid || -e $state_dir/ready ]]; then
    fail 1 'a server may be running, and the program that stops it is not built' 'make build'
  else
    say 'no server that "make run" started is running'
  fi
}

stop() {
  end_server
  if [[ -z ${SHED_RUN_DIR:-} ]]; then "$here/engine.sh" stop; fi
}

# labelled LIST...   what the engine lists with this server's label, one a line. Nothing is taken for gone that was not asked for.
labelled() {
  docker "$@" -q --filter "label=shed.server=$id" || fail 1 'the Docker engine does not say what is left; nothing more was removed'
}

# Removes the rules of the network of sheds. The right to do so is the right to install them.
remove_firewall() {
  if ! can_be_root; then
    say "firewall rules may be left; to remove them: sudo $server firewall remove --data-dir $data_dir"
  elif [[ -x $server ]]; then
    as_root "$server" firewall remove --data-dir "$data_dir" || say 'the firewall rules of sheds were not removed'
  fi
}

uninstall() {
  local id='' answer='' socket='' left
  local -a volumes=() containers=() networks=()
  id=$(cat "$data_dir/server_id" 2>/dev/null) || true
  # Without an engine nobody knows which containers and volumes are left, and the id in the data directory is all that finds them.
  if [[ -n $id ]] && ! docker version >/dev/null 2>&1 && ! "$here/engine.sh" ensure; then
    fail 3 "sheds of this server may be left, and no Docker engine answers; nothing was removed" \
      "$here/engine.sh ensure" "$self uninstall"
  fi
  if [[ -x $server ]]; then socket=$(field socket); fi
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
    if ((${#networks[@]})); then
      docker network rm "${networks[@]}" >/dev/null
      remove_firewall
    fi
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
  rm -rf "$state_dir" "$data_dir" ${socket:+"$socket"}
  if docker version >/dev/null 2>&1; then
    local images
    mapfile -t images < <(docker images -q --filter label=shed.image | sort -u)
    if [[ -z ${SHED_RUN_DIR:-} ]] && ((${#images[@]})); then docker rmi -f "${images[@]}" >/dev/null; fi
  fi
  if [[ -z ${SHED_RUN_DIR:-} ]]; then "$here/engine.sh" forget; fi
  say 'removed; Debian packages (docker.io, mmdebstrap) stay, and so does this checkout'
}

status() {
  local line
  [[ -x $server ]] || fail 1 'the programs are not built' 'make build'
  if line=$(service status); then
    printf '%s\n' "$line"
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
  *) usage ;;
esac
