# shellcheck shell=bash
# The second node, a machine of its own as far as Kubernetes can see: namespaces for its network, mounts and processes inside
# those of the bed, and a link to the first. So the end of its first process ends all of it. Runs inside the bed.
#   second.sh up | down | kill | cut | join
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$BED/lib/pki.sh"
. "$BED/lib/second-settings.sh"
. "$BED/lib/node.sh"
. "$BED/lib/image.sh"

admin() { kubectl --kubeconfig "$RUN/admin.kubeconfig" "$@"; }
on_second() { nsenter --target "$(second_pid)" --net --mount --pid -- "$@"; }
ended() { [ -z "$(second_pid)" ] || { echo "it still runs"; return 1; }; }

up() {
  began=$(date -u +%FT%TZ)
  [ -z "$(second_pid)" ] || { join; wait_for "the second node is ready" $HANG second_ready; return; }
  mkdir -p "$NODE_DIR"
  if [ ! -e "$RUN/$NODE_KUBELET.kubeconfig" ]; then
    certificate $NODE_KUBELET system:node:$NODE system:nodes "IP:$NODE_IP,DNS:$NODE"
    kubeconfig $NODE_KUBELET $NODE_KUBELET 6443
  fi
  cgroups
  env "$MARK" setsid unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private \
    /usr/bin/python3 "$BED/lib/init.py" "$NAME-second" "$BED/lib/second-node.sh" \
    >>"$LOG/second.log" 2>&1 </dev/null 8>&- 9>&- &
  wait_for "the second node's first process runs" $HANG second_pid_known
  ip link add second type veth peer name uplink netns "$(second_pid)"
  ip addr add $LINK_FIRST/30 dev second
  ip link set second up
  ip route add $NODE_PODS via $NODE_IP
  # Not `ctr version`: until the node has mounts of its own, the first node's containerd answers it.
  wait_for "the second node's containerd answers" $HANG second_containerd
  # What a lost node had is there still.
  import "$CACHE/images/pause.tar"
  [ ! -e "$RUN/image" ] || import "$STATE/image/toezicht.tar"
  wait_for "the second node is ready" $HANG second_ready
}

# Ready, and not by what Kubernetes heard of it before.
second_ready() {
  local renewed
  renewed=$(admin -n kube-node-lease get lease $NODE -o 'jsonpath={.spec.renewTime}')
  [[ $renewed > $began ]] || { echo "its kubelet has not renewed its lease since $began"; return 1; }
  node_ready 2>/dev/null
}

second_containerd() {
  [ -n "$(second_pid)" ] || { tail -n 3 "$LOG/second.log"; return 3; }
  on_second test -e /run/containerd-answers || { echo "it does not"; return 1; }
}
second_pid_known() { [ -n "$(second_pid)" ] || { echo "it does not"; return 1; }; }

import() {
  local stamp; stamp=$NODE_DIR/imported-$(basename "$1")-$(stat -c %Y "$1")
  [ ! -e "$stamp" ] || return 0
  on_second ctr -n k8s.io images import "$1" >/dev/null
  touch "$stamp"
}

# Nobody hears of its end: the link goes first, or the kernel would close its connections.
kill_node() {
  ip link del second 2>/dev/null || true
  local pid; pid=$(second_pid)
  [ -z "$pid" ] || kill -9 "$pid"
  wait_for "the second node has ended" $HANG ended
  join
  wait_for "the second node's cgroups are removed" $HANG remove_second_cgroups
}

remove_second_cgroups() {
  local mount
  for mount in $(cgroup_mounts); do
    [ ! -d "$mount/$NODE_CGROUP" ] || find "$mount/$NODE_CGROUP" -depth -type d -exec rmdir {} + || return 1
  done
}

# Its pods record on and reach the store and the cameras, but it neither hears of the API server nor does anything of the
# first node reach it.
cut() {
  nft -f - <<N
add table inet second
flush table inet second
table inet second {
  chain in { type filter hook input priority -10; iifname second tcp dport { 6443, 7443 } drop; }
  chain out { type filter hook output priority -10; oifname second ct direction original drop; }
  chain through { type filter hook forward priority -10; oifname second drop; iifname second drop; }
}
N
}

join() { nft delete table inet second 2>/dev/null || true; }

down() {
  kill_node
  admin delete node $NODE --ignore-not-found >/dev/null
  admin get pods -A --field-selector spec.nodeName=$NODE -o 'jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}' |
    while read -r namespace name; do
      admin -n "$namespace" delete pod "$name" --force --grace-period=0 --ignore-not-found >/dev/null 2>&1
    done
  rm -rf "$NODE_DIR"
}

exec 8>"$RUN/second.lock"
flock -w 300 8 || die "another command of the second node runs"
case ${1:-} in
  up | down | cut | join) "$1" ;;
  kill) kill_node ;;
  *) die "second up, down, kill, cut or join" ;;
esac
