#!/usr/bin/env bash
# Generates types for TypeScript from docs/openapi.json and compiles client.ts, which uses them.
#
# Exit status: 0 it compiles · 1 it does not, or a tool could not be installed · 3 npm is missing; the command is printed
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/common.sh
. "$here/../common.sh"
cd "$here/../.."

readonly pins=(openapi-typescript@7.13.0 typescript@5.9.3)
readonly dir=target/tools/typescript

have npm || fail 3 'npm is missing' "$(sudo_word)apt-get install -y --no-install-recommends npm"
if [[ ! -r $dir/pins || $(<"$dir/pins") != "${pins[*]}" ]]; then
  rm -rf "$dir"
  mkdir -p "$dir"
  say "installing ${pins[*]} into $dir"
  if ! npm install --prefix "$dir" --no-save --no-audit --no-fund "${pins[@]}" >"$dir.log" 2>&1; then
    show_log "$dir.log"
    fail 1 "${pins[*]} could not be installed"
  fi
  echo "${pins[*]}" >"$dir/pins"
fi

out=$(mktemp -d "${TMPDIR:-/tmp}/shed-typescript.XXXXXX")
trap 'rm -rf "$out"' EXIT
cp "$here/client.ts" "$out"
"$dir/node_modules/.bin/openapi-typescript" docs/openapi.json --output "$out/shed.d.ts"
"$dir/node_modules/.bin/tsc" --noEmit --strict --target es2022 --module esnext --moduleResolution bundler "$out/client.ts"
say 'the types compile'
