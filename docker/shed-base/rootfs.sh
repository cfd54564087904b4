#!/usr/bin/env bash
# Writes a Debian bookworm file system as a tar archive to stdout, built by mmdebstrap from Debian's own archive. It replaces
# debian:bookworm-slim when no image registry can be reached.
#
#   docker/shed-base/rootfs.sh full      with all of `packages`, so that the image build needs neither apt nor network
#   docker/shed-base/rootfs.sh minimal   the content of debian:bookworm-slim
#
# Needs mmdebstrap, and root (otherwise mmdebstrap tries its unprivileged modes). SHED_DEBIAN_MIRROR replaces deb.debian.org.
# Exit status: 0 done · 1 mmdebstrap failed · 2 invalid arguments
#
# Three things make it fast (26 s instead of 35 on two cores): the tree is built in memory, nothing is synced, and the list of files to
# exclude is installed only after the first packages are extracted, because mmdebstrap would start a filter for each of them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

case ${1:-} in
  full) include=$(sed 's/#.*//; /^[[:space:]]*$/d' "$here/packages" | paste -sd,) ;;
  minimal) include='' ;;
  *)
    echo 'usage: rootfs.sh full|minimal' >&2
    exit 2
    ;;
esac

# A tmpfs in a mount namespace of its own, which ends with the script. Needs root and enough memory (the full tree is 0.6 GB).
if [[ $EUID == 0 && -z ${SHED_ROOTFS_IN_MEMORY:-} ]] &&
  (($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) > 3000000)) && unshare --mount true 2>/dev/null; then
  exec unshare --mount env SHED_ROOTFS_IN_MEMORY=1 bash "$0" "$@"
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/shed-rootfs.XXXXXX")
trap 'umount "$work" 2>/dev/null || true; rm -rf "$work"' EXIT
if [[ -n ${SHED_ROOTFS_IN_MEMORY:-} ]]; then mount -t tmpfs -o mode=755,size=2500m shed-rootfs "$work"; fi
chmod 755 "$work"

sources=()
if [[ -n ${SHED_DEBIAN_MIRROR:-} ]]; then
  mirror=${SHED_DEBIAN_MIRROR%/}
  sources=("deb $mirror bookworm main" "deb $mirror bookworm-updates main" "deb ${mirror}-security bookworm-security main")
fi

# shellcheck disable=SC2016  # the hooks' own shells expand $1, the tree's path
TMPDIR=$work mmdebstrap \
  --mode="$([[ $EUID == 0 ]] && echo root || echo auto)" \
  --variant=minbase \
  --format=tar \
  --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
  --dpkgopt=force-unsafe-io \
  --aptopt='Acquire::Languages "none"' \
  --extract-hook="cp '$here'/files/etc/dpkg/dpkg.cfg.d/* \"\$1\"/etc/dpkg/dpkg.cfg.d/" \
  --customize-hook='cd "$1" && rm -rf usr/share/man/* usr/share/info/* usr/share/lintian/* etc/*/*.d/99mmdebstrap' \
  --customize-hook='find "$1"/usr/share/doc "$1"/usr/share/locale -type f ! -name copyright ! -name locale.alias -delete' \
  --customize-hook='find "$1"/usr/share/doc "$1"/usr/share/locale -mindepth 1 -type d -empty -delete' \
  ${include:+--include="$include"} \
  bookworm - "${sources[@]}"
