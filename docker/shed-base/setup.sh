#!/bin/bash
# Runs once inside the image build, as root, after the recipe's files are in place. Makes a minimal Debian, whichever way it came
# (a registry's debian:bookworm-slim or rootfs.sh), into shed-base. Argument: the directory that holds `packages`.
set -euo pipefail
cd "$1"
export DEBIAN_FRONTEND=noninteractive

# Packages that rootfs.sh has installed already cost nothing here: no list is fetched, no network is needed.
mapfile -t wanted < <(sed 's/#.*//; /^[[:space:]]*$/d' packages)
mapfile -t present < <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^installed //p')
mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}" | sort) <(printf '%s\n' "${present[@]}" | sort))
if ((${#missing[@]} > 0)); then
  apt-get -q update
  apt-get -q -y upgrade
  apt-get -q -y install --no-install-recommends "${missing[@]}"
fi

# A certificate of the host's, if image.sh was told to trust them.
if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then update-ca-certificates; fi

groupadd --gid 1000 dev
useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash --comment 'shed user' dev
chmod 755 /home/dev
install -d -o dev -g dev /workspace /worktrees

# The skeleton's .bashrc sets its own prompt and would hide the one that names the shed.
printf '# Yours. /etc/shed/bashrc has run already.\n' | tee /etc/skel/.bashrc >/home/dev/.bashrc
printf '\n. /etc/shed/bashrc\n' >>/etc/bash.bashrc

# Every login shell would run `id` to learn what bash knows: a fork and an exec, of the few milliseconds a command takes.
# shellcheck disable=SC2016 # for the shell that reads the file
sed -i 's/"$(id -u)"/"${UID:-$(id -u)}"/' /etc/profile

tic -x -o /etc/terminfo /etc/shed/terminals.ti
git config --system init.defaultBranch main
git lfs install --system --skip-repo >/dev/null

# Nothing of the build stays behind. The machine id must differ between sheds, so the image has none.
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/* /tmp/*
: >/etc/machine-id
