# shellcheck shell=bash
# Certificates and kubeconfigs of the bed's own authority. Sourced by up.sh.

# certificate NAME CN O [SUBJECT-ALT-NAMES]
certificate() {
  local base=$RUN/pki/$1
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$base.key" \
    -subj "/O=$3/CN=$2" -out "$base.csr" 2>/dev/null
  openssl x509 -req -in "$base.csr" -CA "$RUN/pki/ca.crt" -CAkey "$RUN/pki/ca.key" \
    -set_serial "0x$(openssl rand -hex 8)" -days 365 -out "$base.crt" \
    -extfile <(printf 'extendedKeyUsage=clientAuth,serverAuth\n%s' "${4:+subjectAltName=$4}") 2>/dev/null
}

# kubeconfig FILE CERTIFICATE PORT. Certificates are embedded: the file works alone.
kubeconfig() {
  cat >"$RUN/$1.kubeconfig" <<K
apiVersion: v1
kind: Config
current-context: bed
contexts: [{name: bed, context: {cluster: bed, user: bed}}]
clusters:
- name: bed
  cluster: {server: "https://$HOST_IP:$3", certificate-authority-data: "$(base64 -w0 "$RUN/pki/ca.crt")"}
users:
- name: bed
  user: {client-certificate-data: "$(base64 -w0 "$RUN/pki/$2.crt")", client-key-data: "$(base64 -w0 "$RUN/pki/$2.key")"}
K
}

keys_and_kubeconfigs() {
  mkdir -p "$RUN/pki"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=bed \
    -keyout "$RUN/pki/ca.key" -out "$RUN/pki/ca.crt" 2>/dev/null
  local names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
  certificate apiserver kube-apiserver kubernetes "IP:127.0.0.1,IP:$HOST_IP,IP:$SERVICE_API,$names"
  certificate admin admin system:masters
  certificate controllers system:kube-controller-manager system:kube-controller-manager
  certificate scheduler system:kube-scheduler system:kube-scheduler
  certificate kubelet system:node:node system:nodes "IP:$HOST_IP,DNS:node"
  certificate proxy system:kube-proxy system:node-proxier
  openssl genrsa -out "$RUN/pki/sa.key" 2048 2>/dev/null
  openssl rsa -in "$RUN/pki/sa.key" -pubout -out "$RUN/pki/sa.pub" 2>/dev/null
  openssl req -x509 -key "$RUN/pki/sa.key" -days 365 -subj /CN=service-accounts -out "$RUN/pki/sa.crt"
  local user
  for user in admin controllers scheduler kubelet proxy; do kubeconfig $user $user 6443; done
  kubeconfig newest admin 7443
}
