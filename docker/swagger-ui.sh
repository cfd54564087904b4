#!/usr/bin/env bash
# Makes the files of Swagger UI that the page /api/docs uses again, from its npm package: internal/http/web/swagger-ui.
# The result is checked in, so that a build needs neither npm nor a network. To take another version, change `version`.
#
# Exit status: 0 done · 1 the package could not be fetched, or is not the one whose checksum is known · 3 npm is missing
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=docker/common.sh
. "$here/common.sh"
cd "$here/.."

readonly version=5.35.0
readonly sha256=1b8e891893404ea4c3558b6a87e2a3e494e7eedba41168c2ece5800a391a6ea6
readonly target=internal/http/web/swagger-ui

have npm || fail 3 'npm is missing' "$(sudo_word)apt-get install -y --no-install-recommends npm"
dir=$(mktemp -d "${TMPDIR:-/tmp}/shed-swagger.XXXXXX")
trap 'rm -rf "$dir"' EXIT
say "fetching swagger-ui-dist $version"
package=$(npm pack --silent --pack-destination "$dir" "swagger-ui-dist@$version") ||
  fail 1 "swagger-ui-dist $version could not be fetched"
echo "$sha256  $dir/$package" | sha256sum --check --status ||
  fail 1 "swagger-ui-dist $version has the checksum $(sha256sum "$dir/$package" | cut -d' ' -f1), expected $sha256"
tar xzf "$dir/$package" -C "$dir"

mkdir -p "$target"
# Without name and time, so that the same input gives the same bytes.
for file in swagger-ui-bundle.js swagger-ui.css; do
  gzip -9 --no-name --stdout "$dir/package/$file" >"$target/$file.gz"
done
{
  printf 'Swagger UI %s\n\n' "$version"
  cat "$dir/package/NOTICE"
  printf '\n\n'
  cat "$dir/package/LICENSE"
  printf '\n\nParts of swagger-ui-bundle.js have licences of their own:\n\n'
  cat "$dir/package/swagger-ui-bundle.js.LICENSE.txt"
} | gzip -9 --no-name --stdout >"$target/LICENSE.txt.gz"
cat >"$target/README.md" <<TEXT
# Swagger UI $version

Files of the npm package \`swagger-ui-dist\` $version, compressed with gzip and otherwise unchanged. Licence: Apache-2.0; the texts of it
and of the licences of the parts are in \`LICENSE.txt.gz\`, which the server serves as \`/api/docs/swagger-ui.LICENSE.txt\`.

\`docker/swagger-ui.sh\` makes these files again; do not edit them.
TEXT
say "wrote $target"
