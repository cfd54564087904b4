#!/bin/bash
# Runs once in the image build, as root, after the recipe's files are copied. Turns a minimal Debian (a registry's debian:bookworm-slim,
# or the output of rootfs.sh) into shed-base. Argument: the directory of the file `packages`.
set -euo pipefail
cd "$1"
export DEBIAN_FRONTEND=noninteractive

# If rootfs.sh has installed all packages, no package list is fetched and no network is needed.
mapfile -t wanted < <(sed 's/#.*//; /^[[:space:]]*$/d' packages)
mapfile -t present < <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^installed //p')
mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}" | sort) <(printf '%s\n' "${present[@]}" | sort))
if ((${#missing[@]} > 0)); then
  apt-get -q update
  apt-get -q -y upgrade
  apt-get -q -y install --no-install-recommends "${missing[@]}"
fi

# Certificates of the host, with image.sh --trust-host-ca.
if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then update-ca-certificates; fi

groupadd --gid 1000 dev
useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash --comment 'shed user' dev
chmod 755 /home/dev
install -d -o dev -g dev /workspace /worktrees

# The skeleton's .bashrc sets a prompt of its own and would replace the one with the shed's name.
printf '# Yours. /etc/shed/bashrc has run already.\n' | tee /etc/skel/.bashrc >/home/dev/.bashrc
printf '\n. /etc/shed/bashrc\n' >>/etc/bash.bashrc

# Without this every login shell would run `id` for a value that bash has in UID: a fork and an exec of the few milliseconds that a
# command takes.
# shellcheck disable=SC2016 # expanded by the shell that reads the file
sed -i 's/"$(id -u)"/"${UID:-$(id -u)}"/' /etc/profile

tic -x -o /etc/terminfo /etc/shed/terminals.ti
git config --system init.defaultBranch main
git lfs install --system --skip-repo >/dev/null

# Remove everything that only the build needs. The machine id must differ between sheds, so the image has none.
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/* /tmp/*
: >/etc/machine-id
