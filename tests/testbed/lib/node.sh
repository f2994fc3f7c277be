# shellcheck shell=bash
# The node: containerd with the images, kubelet and kube-proxy. Sourced by up.sh.

containerd_up() {
  mkdir -p "$RUN"/{cni,containerd}
  cat >"$RUN/cni/10-bridge.conflist" <<C
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$RUN/ipam", "ranges": [[{"subnet": "$PODS"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
C
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE every sandbox would fail with
  # "can't get final child's PID from pipe: EOF".
  cat >"$RUN/containerd.toml" <<C
version = 2
root = "$RUN/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$RUN/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
C
  daemon containerd containerd --config "$RUN/containerd.toml"
  wait_for "containerd answers" 30 answers containerd
  import_image "$CACHE/images/pause.tar"
  if [ -e "$STATE/image/stamp" ]; then
    import_image "$STATE/image/toezicht.tar"
    cp "$STATE/image/stamp" "$RUN/image"
  fi
}

# A cgroup of the bed's own in each hierarchy, above the kubelet's `kubepods`.
cgroups() {
  local mount controller
  for mount in $(cgroup_mounts); do
    for controller in $(cat "$mount/cgroup.controllers" 2>/dev/null); do   # v2: handed down on demand
      echo "+$controller" >"$mount/cgroup.subtree_control" || true
    done
    mkdir -p "$mount/$NAME"
    if [ -e "$mount/cpuset.cpus" ] && [ -e "$mount/tasks" ]; then       # v1: not inherited
      cat "$mount/cpuset.cpus" >"$mount/$NAME/cpuset.cpus"
      cat "$mount/cpuset.mems" >"$mount/$NAME/cpuset.mems"
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
cgroupRoot: /$NAME
cgroupsPerQOS: true
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$RUN/pki/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: "$RUN/pki/kubelet.crt"
tlsPrivateKeyFile: "$RUN/pki/kubelet.key"
address: $HOST_IP
port: 10250
healthzBindAddress: 127.0.0.1
resolvConf: "$RUN/resolv.conf"
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
configMapAndSecretChangeDetectionStrategy: Watch
podLogsDir: "$RUN/pod-logs"
volumePluginDir: "$RUN/volume-plugins"
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

node_ready() {
  kubectl --kubeconfig "$RUN/admin.kubeconfig" get node node \
    -o 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status}: {.message}{end}' | tee /dev/stderr | grep -q ^True
}

node() {
  cgroups
  kubelet_configuration >"$RUN/kubelet.yaml"
  proxy_configuration >"$RUN/proxy.yaml"
  echo "nameserver 127.0.0.1" >"$RUN/resolv.conf"
  # A kubelet that starts before the API server waits long before it tries again.
  wait_for "the API server is ready" 90 answers apiserver
  wait_for "containerd answers" 30 answers containerd
  daemon kubelet kubelet --config="$RUN/kubelet.yaml" --kubeconfig="$RUN/kubelet.kubeconfig" \
    --hostname-override=node --node-ip="$HOST_IP" --cert-dir="$RUN/pki"
  daemon proxy kube-proxy --config="$RUN/proxy.yaml"
  wait_for "the node is ready" 90 node_ready
  wait_for "the default service account is there" 30 \
    kubectl --kubeconfig "$RUN/admin.kubeconfig" get serviceaccount -n default default
}
