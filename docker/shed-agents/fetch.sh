#!/bin/bash
# Runs in the fetch stage of the image build, as root: installs Node, npm and the agents listed in the file VERSIONS into DIR.
#   fetch.sh VERSIONS DIR      creates DIR/node and DIR/agents
set -euo pipefail
versions=$1 dir=$2
export DEBIAN_FRONTEND=noninteractive NPM_CONFIG_AUDIT=false NPM_CONFIG_FUND=false NPM_CONFIG_UPDATE_NOTIFIER=false

version_of() { awk -v name="$1" '$1 == name { print $2 }' "$versions"; }

update-ca-certificates
export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt

# Debian's Node and npm are used only to download the pinned ones.
apt-get -q update
apt-get -q -y install --no-install-recommends npm

# npm's package `node` is a script that installs node-OS-ARCH of its own version; installing that one directly runs no script.
case $(dpkg --print-architecture) in
  amd64) arch=x64 ;;
  arm64) arch=arm64 ;;
  *)
    echo "no Node for $(dpkg --print-architecture) in npm's node package" >&2
    exit 1
    ;;
esac
npm install --prefix /fetch/node "node-linux-$arch@$(version_of node)" "npm@$(version_of npm)"
mkdir -p "$dir/node/bin" "$dir/node/lib/node_modules"
mv "/fetch/node/node_modules/node-linux-$arch/bin/node" "$dir/node/bin/"
mv /fetch/node/node_modules/npm "$dir/node/lib/node_modules/"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$dir/node/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$dir/node/bin/npx"
export PATH="$dir/node/bin:$PATH"

# All four at once; npm runs their install scripts, which link the right binary.
mapfile -t agents < <(sed 's/#.*//' "$versions" | awk 'NF == 2 && $1 != "node" && $1 != "npm" { print $1 "@" $2 }')
npm install --prefix "$dir/agents" "${agents[@]}"

# Remove unused files (0.6 GB): packages whose binary an install script has already linked elsewhere, the binary for another processor,
# Codex's voice host, and native modules for other systems.
cd "$dir/agents/node_modules"
rm -rf @anthropic-ai/claude-code-linux-* opencode-linux-* @openai/codex-linux-*/vendor/*/codex-resources/voice
find . -path '*/prebuilds/*' -type d ! -name prebuilds ! -name "linux-$arch" -prune -exec rm -rf {} +
