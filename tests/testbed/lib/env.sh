# shellcheck shell=bash
# The environment in which tests run. Sourced.

# NAME VALUE lines; values have no quotes in them.
environment() {
  cat <<V
TOEZICHT_TEST_BED $STATE
TOEZICHT_TESTBED_UNFINISHED $RUN/unfinished
KUBECONFIG $RUN/admin.kubeconfig
TOEZICHT_TEST_KUBECONFIG_NEWEST $RUN/newest.kubeconfig
TOEZICHT_TEST_AUDIT_LOG $LOG/audit.log
TOEZICHT_TEST_S3 $STATE/s3/seaweedfs.json
TOEZICHT_TEST_CAMERAS rtsp://$HOST_IP:8554
TOEZICHT_TEST_CAMERA_USER camera
TOEZICHT_TEST_CAMERA_PASSWORD kijk-mee-niet
TOEZICHT_TEST_CLIPS $CACHE/clips
TOEZICHT_TEST_IMAGE $(image_name)
V
  [ ! -e "$RUN/ceph.up" ] || cat <<V
TOEZICHT_TEST_S3_SECOND $STATE/s3/ceph.json
TOEZICHT_DEMO_S3 $STATE/s3/ceph.json
V
}

export_env() {
  local name value
  while read -r name value; do export "$name=$value"; done < <(environment)
  export PATH
}

print_env() {
  local name value
  while read -r name value; do printf 'export %s=%q\n' "$name" "$value"; done < <(environment)
  printf 'export PATH=%q\n' "$PATH"
}
