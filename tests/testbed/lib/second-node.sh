# shellcheck shell=bash
# Boots the second node, as the child of the first process of its namespaces, and waits. Whatever is killed here comes back
# only with the node.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$BED/lib/second-settings.sh"
. "$BED/lib/node.sh"

# Copies of the first node's mounts: they would keep its pods' networks and volumes alive.
unmount_first() {
  local point
  awk '{print $5}' /proc/self/mountinfo | tac | while read -r point; do
    case $point/ in
      "$RUN"/* | /run/* | /var/lib/kubelet/* | /var/lib/cni/* | /var/log/containers/*) umount -l "$point" ;;
    esac
  done
}

unmount_first
private_mounts
until ip link show uplink >/dev/null 2>&1; do sleep 0.05; done
ip link set lo up
ip addr add "$NODE_IP/30" dev uplink
ip link set uplink up
ip route add default via $LINK_FIRST
sysctl -qw net.ipv4.ip_forward=1
containerd_configuration
kubelet_configuration >"$NODE_DIR/kubelet.yaml"
containerd --config "$NODE_DIR/containerd.toml" >>"$LOG/second-containerd.log" 2>&1 </dev/null &
wait_for "containerd answers" $HANG ctr version
touch /run/containerd-answers                           # in a /run of its own
mapfile -t command < <(kubelet_command)
exec "${command[@]}" >>"$LOG/second-kubelet.log" 2>&1 </dev/null
