# shellcheck shell=bash
# The control planes: the cluster's own, and a second API server of the newest version,
# without nodes, for tests of the API alone. Sourced by up.sh.

SERVICES=10.96.0.0/24
SERVICE_API=10.96.0.1
PODS=10.244.0.0/16                                        # of all nodes
# The issuer of service account tokens.
ISSUER=http://$HOST_IP:7481

# etcd NAME CLIENT-PORT PEER-PORT
etcd_up() {
  daemon "$1" etcd --data-dir "$RUN/$1" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$2" --advertise-client-urls "http://127.0.0.1:$2" \
    --listen-peer-urls "http://127.0.0.1:$3" --initial-advertise-peer-urls "http://127.0.0.1:$3" \
    --initial-cluster "default=http://127.0.0.1:$3"
}

# api_server NAME PROGRAM PORT ETCD-PORT FLAG…
api_server() {
  local name=$1 program=$2 port=$3 etcd=$4; shift 4
  daemon "$name" "$program" --etcd-servers="http://127.0.0.1:$etcd" \
    --secure-port="$port" --bind-address="$HOST_IP" --advertise-address="$HOST_IP" --cert-dir="$RUN/$name" \
    --tls-cert-file="$RUN/pki/apiserver.crt" --tls-private-key-file="$RUN/pki/apiserver.key" \
    --client-ca-file="$RUN/pki/ca.crt" --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --service-cluster-ip-range=$SERVICES --allow-privileged=true \
    --service-account-key-file="$RUN/pki/sa.pub" --service-account-signing-key-file="$RUN/pki/sa.key" \
    --service-account-issuer="$ISSUER" "$@"
}

# PodSecurity and ValidatingAdmissionPolicy are on by default.
kubernetes() {
  etcd_up etcd 2379 2380
  # Addresses rather than names for exec, logs and port-forward: there is no DNS.
  api_server apiserver kube-apiserver 6443 2379 \
    --kubelet-client-certificate="$RUN/pki/admin.crt" --kubelet-client-key="$RUN/pki/admin.key" \
    --kubelet-certificate-authority="$RUN/pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --audit-policy-file="$BED/audit-policy.yaml" --audit-log-path="$LOG/audit.log" --audit-log-format=json
  wait_for "the API server is ready" $HANG answers apiserver
  daemon controller-manager kube-controller-manager --kubeconfig="$RUN/controllers.kubeconfig" \
    --authentication-kubeconfig="$RUN/controllers.kubeconfig" --authorization-kubeconfig="$RUN/controllers.kubeconfig" \
    --root-ca-file="$RUN/pki/ca.crt" --service-account-private-key-file="$RUN/pki/sa.key" \
    --use-service-account-credentials=true --cluster-cidr=$PODS --allocate-node-cidrs=false \
    --bind-address=127.0.0.1 --cert-dir="$RUN/controller-manager" --leader-elect=false
  daemon scheduler kube-scheduler --kubeconfig="$RUN/scheduler.kubeconfig" \
    --authentication-kubeconfig="$RUN/scheduler.kubeconfig" --authorization-kubeconfig="$RUN/scheduler.kubeconfig" \
    --bind-address=127.0.0.1 --cert-dir="$RUN/scheduler" --leader-elect=false
}

# The API server tells its public keys without the certificate that Ceph 16 asks for.
issuer() {
  mkdir -p "$RUN/issuer/.well-known"
  printf '{"issuer": "%s", "jwks_uri": "%s/keys"}' "$ISSUER" "$ISSUER" >"$RUN/issuer/.well-known/openid-configuration"
  printf '{"keys": [{"x5c": ["%s"]}]}' "$(openssl x509 -in "$RUN/pki/sa.crt" -outform DER | base64 -w0)" >"$RUN/issuer/keys"
  daemon issuer /usr/bin/python3 -m http.server --bind "$HOST_IP" --directory "$RUN/issuer" "${ISSUER##*:}"
  wait_for "the issuer answers" $HANG answers issuer
}

kubernetes_newest() {
  etcd_up etcd-newest 12379 12380
  api_server apiserver-newest kube-apiserver-newest 7443 12379
  wait_for "the newest API server is ready" $HANG answers apiserver-newest
}
