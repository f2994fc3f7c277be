# shellcheck shell=bash
# A node: its mounts, cgroups, containerd and kubelet. The first one, `node`, also has kube-proxy. Sourced by up.sh and
# second.sh, which has set other values for the second node.

: "${NODE:=node}" "${NODE_IP:=$HOST_IP}" "${NODE_PODS:=10.244.0.0/24}" "${NODE_DIR:=$RUN}" "${NODE_CGROUP:=$NAME}"
: "${NODE_KUBELET:=kubelet}" "${NODE_TAINTS:=}"

# A mount namespace that looks like a machine of its own where programs have fixed
# places, so that nothing is left on the real one and two nodes do not meet.
private_mounts() {
  mount --make-rshared /                                 # the kubelet wants shared mounts
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/lock "$NODE_DIR"/{kubelet,cni-lib,log-containers,sysctl}
  mount --bind "$NODE_DIR/kubelet" /var/lib/kubelet
  mount --bind "$NODE_DIR/cni-lib" /var/lib/cni
  mount --bind "$NODE_DIR/log-containers" /var/log/containers
  # The kubelet sets these for the whole machine (kernel.panic among them): let it
  # write into files instead.
  local key
  for key in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    [ -e "/proc/sys/$key" ] || continue
    cp "/proc/sys/$key" "$NODE_DIR/sysctl/${key//\//.}"
    mount --bind "$NODE_DIR/sysctl/${key//\//.}" "/proc/sys/$key"
  done
}

containerd_configuration() {
  mkdir -p "$NODE_DIR"/{cni,containerd}
  cat >"$NODE_DIR/cni/10-bridge.conflist" <<C
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$NODE_DIR/ipam", "ranges": [[{"subnet": "$NODE_PODS"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
C
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE every sandbox would fail with
  # "can't get final child's PID from pipe: EOF".
  cat >"$NODE_DIR/containerd.toml" <<C
version = 2
root = "$NODE_DIR/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$NODE_DIR/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$NODE_DIR/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
C
}

containerd_up() {
  containerd_configuration
  daemon containerd containerd --config "$NODE_DIR/containerd.toml"
  wait_for "containerd answers" $HANG answers containerd
  import_image "$CACHE/images/pause.tar"
  if [ -e "$STATE/image/stamp" ]; then
    import_image "$STATE/image/toezicht.tar"
    cp "$STATE/image/stamp" "$RUN/image"
  fi
}

# A cgroup of the node's own in each hierarchy, above the kubelet's `kubepods`.
cgroups() {
  local mount parent controller
  for mount in $(cgroup_mounts); do
    parent=$(dirname "$mount/$NODE_CGROUP")
    for controller in $(cat "$parent/cgroup.controllers" 2>/dev/null); do   # v2: handed down on demand
      echo "+$controller" >"$parent/cgroup.subtree_control" || true
    done
    mkdir -p "$mount/$NODE_CGROUP"
    if [ -e "$mount/cpuset.cpus" ] && [ -e "$mount/tasks" ]; then       # v1: not inherited
      cat "$mount/cpuset.cpus" >"$mount/$NODE_CGROUP/cpuset.cpus"
      cat "$mount/cpuset.mems" >"$mount/$NODE_CGROUP/cpuset.mems"
    fi
  done
}

# syncFrequency stays at its default: nothing may work only because of a short one.
kubelet_configuration() {
  cat <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock"
cgroupDriver: cgroupfs
cgroupRoot: /$NODE_CGROUP
cgroupsPerQOS: true
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$RUN/pki/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: "$RUN/pki/$NODE_KUBELET.crt"
tlsPrivateKeyFile: "$RUN/pki/$NODE_KUBELET.key"
address: $NODE_IP
port: 10250
healthzBindAddress: 127.0.0.1
resolvConf: "$RUN/resolv.conf"
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
configMapAndSecretChangeDetectionStrategy: Watch
podLogsDir: "$NODE_DIR/pod-logs"
volumePluginDir: "$NODE_DIR/volume-plugins"
registerWithTaints: [$NODE_TAINTS]
C
}

proxy_configuration() {
  cat <<C
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: "$RUN/proxy.kubeconfig"}
mode: nftables
clusterCIDR: $PODS
hostnameOverride: node
conntrack: {maxPerCore: 0}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
C
}

# kubelet_command: the command line of the node's kubelet, one argument a line
kubelet_command() {
  printf '%s\n' kubelet --config="$NODE_DIR/kubelet.yaml" --kubeconfig="$RUN/$NODE_KUBELET.kubeconfig" \
    --hostname-override="$NODE" --node-ip="$NODE_IP" --cert-dir="$RUN/pki"
}

node_ready() {
  kubectl --kubeconfig "$RUN/admin.kubeconfig" get node "$NODE" \
    -o 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status}: {.message}{end}' | tee /dev/stderr | grep -q ^True
}

node() {
  cgroups
  kubelet_configuration >"$NODE_DIR/kubelet.yaml"
  proxy_configuration >"$RUN/proxy.yaml"
  echo "nameserver 127.0.0.1" >"$RUN/resolv.conf"
  # A kubelet that starts before the API server waits long before it tries again.
  wait_for "the API server is ready" $HANG answers apiserver
  wait_for "containerd answers" $HANG answers containerd
  local command; mapfile -t command < <(kubelet_command)
  daemon kubelet "${command[@]}"
  daemon proxy kube-proxy --config="$RUN/proxy.yaml"
  wait_for "the node is ready" $HANG node_ready
  wait_for "the default service account is there" $HANG \
    kubectl --kubeconfig "$RUN/admin.kubeconfig" get serviceaccount -n default default
}
