#!/bin/bash
# Runs in the final stage of the image build, as root: links the commands into PATH, copies initial settings to dev's home directory, and
# checks that each program starts as dev. A login shell's PATH always has /usr/local/bin, whatever /etc/profile does to the rest.
set -euo pipefail
ln -s /opt/node/bin/node /opt/node/bin/npm /opt/node/bin/npx /usr/local/bin/
chmod 755 /usr/local/share/shed-agents/start
for name in claude codex opencode gemini; do
  ln -s /usr/local/share/shed-agents/start "/usr/local/bin/$name"
done

cp -RT /usr/local/share/shed-agents/home /home/dev
chown -R dev:dev /home/dev

# As dev, with a temporary home directory: a program may write there at its first start.
for name in claude codex opencode gemini; do
  printf '%s ' "$name"
  runuser -u dev -- env HOME="$(runuser -u dev -- mktemp -d)" "$name" --version
done
rm -rf /tmp/*
