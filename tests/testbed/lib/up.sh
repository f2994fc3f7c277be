# shellcheck shell=bash
# Starts everything, inside the namespaces that `bed up` made. The parts come up side
# by side; `ready` is written when all are there, `failed` when one is not.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$BED/lib/daemons.sh"
. "$BED/lib/pki.sh"
. "$BED/lib/kubernetes.sh"
. "$BED/lib/node.sh"
. "$BED/lib/s3.sh"
. "$BED/lib/image.sh"

trap 'code=$?; ((code == 0)) || echo $code >"$RUN/failed"' EXIT

# The bridge exists before anything starts, since all listen on its address.
network() {
  ip link set lo up
  ip link add cni0 type bridge
  ip addr add "$HOST_IP/24" dev cni0
  ip link set cni0 up
  ip route add $SERVICES dev cni0          # so that tests reach services too, not pods alone
  sysctl -qw net.ipv4.ip_forward=1
}

# part NAME FUNCTION: run in the background, report when it is done.
parts=()
part() {
  local name=$1; shift
  ( "$@"; say "$name ready" ) &
  parts+=("$!:$name")
}

cameras() {
  daemon cameras /usr/bin/python3 "$BED/cameras.py" --address "$HOST_IP" --port 8554 \
    --clips "$CACHE/clips" --count 12 --user camera --password kijk-mee-niet
  wait_for "the cameras answer on port 8554" $HANG answers cameras
}

say "starting $NAME"
private_mounts
network
keys_and_kubeconfigs
part "S3: SeaweedFS" seaweedfs
case ,${BED_WITHOUT:-}, in
  *,ceph,*) ;;
  *) ! command -v radosgw >/dev/null || part "S3: Ceph" ceph_up ;;
esac
part "containerd, images" containerd_up
part "issuer" issuer
part "Kubernetes API server" kubernetes
# Only the tests need it: `setup demo` does not build it.
[ ! -x "$CACHE/bin/kube-apiserver-newest" ] || part "newest API server" kubernetes_newest
part "node" node
part "cameras" cameras

failed=
for entry in "${parts[@]}"; do wait "${entry%%:*}" || failed+=" ${entry#*:},"; done
[ -z "$failed" ] || { say "failed:${failed%,}"; exit 1; }
say "up after $SECONDS s"
touch "$RUN/ready"
