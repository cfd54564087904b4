#!/usr/bin/env bash
# Installs the SSH clients that docker/test-clients/run.py drives: Debian's packages, and those of PyPI and npm in
# target/tools/test-clients, in the versions given here.
#
# Exit status: 0 installed, or nothing to do · 1 failed · 3 not possible as this user or on this machine
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/common.sh
. "$here/../common.sh"
cd "$here/../.."

readonly wheels=(paramiko==5.1.0 asyncssh==2.24.1 ansible-core==2.19.14)
readonly modules=(ssh2@1.17.0)
readonly tools=target/tools/test-clients
readonly tools_log=$tools.log
readonly pins="${wheels[*]} ${modules[*]}"

missing=()
for pair in ssh:openssh-client plink:putty-tools dbclient:dropbear-bin lftp:lftp rclone:rclone sshfs:sshfs curl:curl \
  node:nodejs npm:npm python3:python3-venv; do
  have "${pair%%:*}" || missing+=("${pair#*:}")
done
if ((${#missing[@]})); then apt_install 'SSH clients' "${missing[@]}"; fi

if [[ -r $tools/pins && $(<"$tools/pins") == "$pins" ]]; then exit 0; fi
rm -rf "$tools"
mkdir -p "$tools/node"
say "installing $pins into $tools"
if ! install_wheels "$tools/python" "${wheels[@]}" >"$tools_log" 2>&1; then
  show_log "$tools_log"
  fail 1 'PyPI packages could not be installed'
fi
# --ignore-scripts: ssh2's optional parts in C are not built.
if ! npm install --prefix "$tools/node" --no-audit --no-fund --ignore-scripts "${modules[@]}" >>"$tools_log" 2>&1; then
  show_log "$tools_log"
  fail 1 'npm packages could not be installed'
fi
echo "$pins" >"$tools/pins"
