#!/usr/bin/env bash
# Builds the images for sheds, each only if its recipe has changed.
#
#   docker/image.sh base          shed-base:latest, the default image of a shed
#   docker/image.sh agents        shed-agents:latest, shed-base plus Node and the agent programs (large)
#   docker/image.sh all           both
#   docker/image.sh test-images   shed-test-busybox, shed-test-notmux, shed-test-sshd: for tests and benchmarks
#
#   --tag T               the tag of the images built, instead of `latest`
#   --force               build from scratch even if an image of this recipe exists
#   --from auto|registry|rootfs   source of Debian (also SHED_IMAGE_FROM); auto uses the registry if it answers
#   --network NET         network of the build steps (also SHED_BUILD_NETWORK), for example `host`
#   --trust-host-ca       put the host's own certificates (/usr/local/share/ca-certificates) into shed-base, for networks that
#                         inspect TLS (also SHED_TRUST_HOST_CA=1). Without it only the downloads of `agents` use them.
#
# Exit status: 0 built or up to date · 1 a build failed, with its last lines · 2 invalid arguments
#              3 no engine, or a package is missing and cannot be installed; the commands are printed
#
# An image has the labels `shed.image` (base, agents, test-…), `shed.recipe` (the hash of all inputs: the recipe's files, the
# arguments, the parent's recipe) and `shed.from` (registry or rootfs). An image with the current hash is not built again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
self=$here/$(basename "${BASH_SOURCE[0]}")
# shellcheck source=docker/common.sh
. "$here/common.sh"

readonly debian_image=debian:bookworm-slim
readonly registry_limit=8 # seconds until a registry must have confirmed that it has the image; limits the wait on a dead network
readonly host_ca_dir=/usr/local/share/ca-certificates

usage() {
  sed -n '2,/^# Exit status/s/^# \{0,1\}//p' "$self" | sed '$d' >&2
  exit 2
}

tag=latest
force=
from=${SHED_IMAGE_FROM:-auto}
network=${SHED_BUILD_NETWORK:-}
trust_host_ca=${SHED_TRUST_HOST_CA:-}
verb=

parse() {
  while (($# > 0)); do
    case $1 in
      --tag | --from | --network)
        (($# >= 2)) && [[ -n $2 ]] || fail 2 "$1 needs a value"
        case $1 in
          --tag) tag=$2 ;;
          --from) from=$2 ;;
          --network) network=$2 ;;
        esac
        shift
        ;;
      --force) force=1 ;;
      --trust-host-ca) trust_host_ca=1 ;;
      base | agents | all | test-images)
        [[ -z $verb ]] || usage
        verb=$1
        ;;
      *) usage ;;
    esac
    shift
  done
  [[ -n $verb ]] || usage
  [[ $from =~ ^(auto|registry|rootfs)$ ]] || fail 2 "invalid --from '$from'; expected auto, registry or rootfs"
  [[ $tag =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || fail 2 "invalid --tag '$tag'; expected at most 128 letters, digits, '_', '.', '-'"
}

# --- recipes and existing images ----------------------------------------------------------------------------------------------

# context RECIPE [PLACE]   the files of a recipe as a tar archive that is the same, byte for byte, on every checkout: sorted, no owners,
# no times, and modes that do not depend on the umask at the clone. It is the build context, and its hash identifies the recipe.
# With PLACE, the host's own certificates are added in that directory, which exists even if there are none.
context() {
  local recipe=$1 place=${2:-} tree
  tree=$(mktemp -d "$work/context.XXXXXX")
  cp -R "$here/$recipe/." "$tree"
  if [[ -n $place ]]; then
    mkdir -p "$tree/$place"
    find "$host_ca_dir" -maxdepth 2 -name '*.crt' -exec cp -fL {} "$tree/$place/" \; 2>/dev/null || true
  fi
  tar -C "$tree" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=u=rwX,go=rX --format=gnu -c .
}

hash_of() { sha256sum | cut -c1-16; }

label_of() { docker image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }

# is_current IMAGE RECIPE_HASH
is_current() { [[ -z $force && $(label_of "$1" shed.recipe) == "$2" ]]; }

# --- building -----------------------------------------------------------------------------------------------------------------

# build IMAGE KIND RECIPE_HASH ORIGIN CONTEXT_FILE BASE
build() {
  local image=$1 kind=$2 hash=$3 from_where=$4 archive=$5 base_image=$6 log=$work/build.log started=$SECONDS old
  local -a arguments=(--tag "$image" --build-arg "BASE=$base_image"
    --label "shed.recipe=$hash" --label "shed.from=$from_where" --label "shed.image=$kind")
  [[ -z $network ]] || arguments+=(--network "$network")
  [[ -z $force ]] || arguments+=(--no-cache)

  old=$(id_of "$image")
  say "building $image"
  if ! with_builder docker build "${arguments[@]}" - <"$archive" >"$log" 2>&1; then
    show_log "$log" 40
    if grep -qiE 'temporary failure (in name )?resol|could ?n.t resolve|unable to (connect|fetch)|EAI_AGAIN' "$log"; then
      fail 1 "building $image failed: a build step has no network access. If the host has access, use its network" \
        "$self $verb --network host"
    fi
    fail 1 "building $image failed"
  fi
  # The classic builder leaves the stages that only fetch behind as images without a name.
  docker image prune --force --filter label=shed.stage=fetch >/dev/null
  forget_image "$old" "$image"
  say "built $image in $((SECONDS - started)) s, $(image_size "$image")"
}

# Uses buildx if the client has it, with the engine's own builder (another builder would not see local images); else the classic
# builder, which a client without buildx uses only if DOCKER_BUILDKIT=0.
with_builder() {
  if docker buildx version >/dev/null 2>&1; then
    BUILDX_BUILDER=$(docker context show 2>/dev/null || echo default) DOCKER_BUILDKIT=1 "$@"
  else
    DOCKER_BUILDKIT=0 "$@"
  fi
}

# forget_image OLD_ID IMAGE   removes the image that had the name IMAGE before, unless a container or another image uses it.
forget_image() {
  if [[ -n $1 && $1 != "$(id_of "$2")" ]]; then docker image rm "$1" >/dev/null 2>&1 || true; fi
}

# name_image ID IMAGE
name_image() {
  local old
  old=$(id_of "$2")
  docker tag "$1" "$2"
  forget_image "$old" "$2"
}

id_of() { docker image inspect --format '{{.Id}}' "$1" 2>/dev/null || true; }

image_size() { docker image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.0f MB", $1 / 1e6 }'; }

# --- source of Debian ---------------------------------------------------------------------------------------------------------

# Sets `origin` (registry or rootfs) once. Only a pull shows whether a registry can be used: the engine configures mirrors and proxies.
origin=
decide_origin() {
  [[ -z $origin ]] || return 0
  case $from in
    rootfs) origin=rootfs ;;
    registry)
      pull_debian || { show_log "$work/pull.log"; fail 1 "no registry provides $debian_image" "$self $verb --from rootfs"; }
      origin=registry
      ;;
    auto)
      if pull_debian; then
        origin=registry
      else
        say "no image registry can be reached; building Debian from its package archive instead"
        origin=rootfs
      fi
      ;;
  esac
}

# Pulls, unless no registry has answered within the limit. Once it has, the download may take its time.
pull_debian() {
  local pull end=$((SECONDS + registry_limit)) answered=
  docker pull "$debian_image" >"$work/pull.log" 2>&1 &
  pull=$!
  while kill -0 "$pull" 2>/dev/null; do
    if [[ -z $answered ]] && grep -q 'Pulling from' "$work/pull.log"; then answered=1; fi
    if [[ -z $answered ]] && ((SECONDS >= end)); then
      kill "$pull" 2>/dev/null || true
      wait "$pull" || true
      return 1
    fi
    sleep 0.05
  done
  wait "$pull"
}

# base_image full|minimal   makes sure the image to start from is there, and sets `base`.
base=
base_image() {
  local variant=$1 hash new started=$SECONDS
  decide_origin
  if [[ $origin == registry ]]; then
    base=$debian_image
    return 0
  fi
  base=shed-rootfs:$variant
  hash=$({ cat "$here/shed-base/rootfs.sh"; [[ $variant == minimal ]] || cat "$here/shed-base/packages"; } | hash_of)
  is_current "$base" "$hash" && return 0

  have mmdebstrap || install_mmdebstrap
  say "building $base from Debian's package archive"
  # A truncated archive imports without an error, so the image gets its name only after mmdebstrap has succeeded.
  if ! new=$(as_root_if_possible "$here/shed-base/rootfs.sh" "$variant" 2>"$work/rootfs.log" |
    docker import --change "LABEL shed.recipe=$hash shed.image=rootfs" -); then
    if [[ -n $new ]]; then docker image rm "$new" >/dev/null 2>&1 || true; fi
    show_log "$work/rootfs.log"
    can_be_root || fail 3 'building Debian without an image registry needs root (or mmdebstrap with user namespaces and newuidmap)' \
      "sudo $self $verb"
    fail 1 'mmdebstrap could not build a Debian root file system; check that a Debian mirror can be reached' \
      "SHED_DEBIAN_MIRROR=http://a.mirror/debian $self $verb"
  fi
  name_image "$new" "$base"
  say "built $base in $((SECONDS - started)) s"
}

install_mmdebstrap() {
  local -a packages=(mmdebstrap)
  [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || packages+=(debian-archive-keyring) # a separate package in Ubuntu
  apt_install "to build a Debian image without a registry" "${packages[@]}"
}

as_root_if_possible() {
  if can_be_root; then as_root env SHED_DEBIAN_MIRROR="${SHED_DEBIAN_MIRROR:-}" "$@"; else "$@"; fi
}

# --- the images ---------------------------------------------------------------------------------------------------------------

base_hash=
make_base() {
  local image=shed-base:$tag
  context shed-base ${trust_host_ca:+"files$host_ca_dir"} >"$work/base.tar"
  base_hash=$(hash_of <"$work/base.tar")
  if is_current "$image" "$base_hash"; then return 0; fi
  base_image full
  build "$image" base "$base_hash" "$origin" "$work/base.tar" "$base"
}

# on_base IMAGE KIND RECIPE [PLACE]   builds an image whose parent is shed-base; PLACE as for context(). Certificates are not part of
# the hash: they are used for downloads and do not stay in the image.
on_base() {
  local image=$1 kind=$2 recipe=$3 place=${4:-} hash
  force='' make_base # --force applies only to the requested image
  hash=$({ context "$recipe" && printf '%s' "$base_hash"; } | hash_of)
  if is_current "$image" "$hash"; then return 0; fi
  context "$recipe" ${place:+"$place"} >"$work/child.tar"
  build "$image" "$kind" "$hash" "$(label_of "shed-base:$tag" shed.from)" "$work/child.tar" "shed-base:$tag"
}

make_agents() { on_base "shed-agents:$tag" agents shed-agents certificates; }

make_test_images() {
  on_base "shed-test-busybox:$tag" test-busybox test-images/busybox
  on_base "shed-test-sshd:$tag" test-sshd test-images/sshd
  make_notmux
}

# Not built from shed-base, which has the programs that this image must not have.
make_notmux() {
  local image=shed-test-notmux:$tag hash
  context test-images/notmux >"$work/notmux.tar"
  hash=$(cat "$work/notmux.tar" "$here/shed-base/rootfs.sh" | hash_of)
  if is_current "$image" "$hash"; then return 0; fi
  base_image minimal
  build "$image" test-notmux "$hash" "$origin" "$work/notmux.tar" "$base"
}

parse "$@"
if ! have docker || ! docker version --format . >/dev/null 2>&1; then
  fail 3 'no Docker engine answers; building an image needs one' "$here/engine.sh ensure"
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/shed-image.XXXXXX")
trap 'rm -rf "$work"' EXIT
exec 9>"${TMPDIR:-/tmp}/shed-image.$EUID.lock"
flock 9 # two builds at once would do the same work twice

case $verb in
  base) make_base ;;
  agents) make_agents ;;
  all) make_base && make_agents ;;
  test-images) make_test_images ;;
esac
