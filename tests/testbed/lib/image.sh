# shellcheck shell=bash
# Images: made by buildah without any daemon, brought into containerd as archives.

# import_image ARCHIVE (on the node)
import_image() { ctr -n k8s.io images import "$1" >/dev/null; }

# buildah with its storage in a folder of ours, and its cache too, which has a fixed place.
buildah_in() {
  local store=$1; shift
  mkdir -p "$store/lib" /var/lib/containers
  unshare --mount sh -c 'mount --bind "$0/lib" /var/lib/containers && exec "$@"' "$store" \
    buildah --storage-driver vfs --root "$store/root" --runroot "$store/runroot" "$@"
}

# image [BINARY]: from the repository's Dockerfile, as users build it; nothing is done
# when neither the binary nor anything else that goes in has changed.
image() {
  local binary=${1:-$ROOT/target/debug/toezicht} out=$STATE/image
  [ -f "$binary" ] || die "$binary is missing: cargo build, or bed image BINARY"
  local stamp
  stamp=$(cat "$binary" "$ROOT/Dockerfile" "$CACHE/images/base.tar" | sha256sum | cut -c1-64)
  mkdir -p "$out"
  if [ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ] || [ ! -e "$out/toezicht.tar" ]; then
    rm -rf "$out"; mkdir -p "$out/context"
    local name=localhost/toezicht:${stamp:0:12}
    strip -o "$out/context/toezicht" "$binary" 2>/dev/null || cp "$binary" "$out/context/toezicht"
    buildah_in "$out/store" bud --quiet --isolation chroot -f "$ROOT/Dockerfile" \
      --build-arg BASE="oci-archive:$CACHE/images/base.tar" --build-arg BINARY=prebuilt \
      -t "$name" "$out/context" >/dev/null
    buildah_in "$out/store" push --quiet "$name" "oci-archive:$out/toezicht.tar:$name"
    rm -rf "$out/store" "$out/context"
    echo "$stamp" >"$out/stamp"
    say "built $name"
  fi
  [ -e "$RUN/ready" ] && [ -n "$(init_pid)" ] || return 0      # `bed up` will import it
  if [ "$(cat "$RUN/image" 2>/dev/null)" != "$stamp" ]; then
    local pid
    for pid in $(init_pid) $(second_pid); do
      nsenter --target "$pid" --net --mount --pid -- ctr -n k8s.io images import "$out/toezicht.tar" >/dev/null
    done
    echo "$stamp" >"$RUN/image"
    say "imported $(image_name)"
  fi
}
