# shellcheck shell=bash
# The two S3 servers. Each ends with a JSON file that tells tests and tools where it is
# and who there is. Sourced by up.sh.

# Keys are made from the name: `operator` has access key `operatorkey`, secret `operatorsecret`. On SeaweedFS it also has
# `operatorsecondkey`, `operatorsecondsecret`, for rotations.
PEOPLE="operator recorder manager other"

# server_file NAME ENDPOINT PRINCIPAL-PREFIX IDENTITY…
server_file() {
  local name=$1 endpoint=$2 prefix=$3 who separator=; shift 3
  mkdir -p "$STATE/s3"
  {
    printf '{"name": "%s", "endpoint": "%s", "region": "us-east-1", "pathStyle": true, "identities": {' "$name" "$endpoint"
    for who in "$@"; do
      printf '%s\n  "%s": {"accessKey": "%skey", "secretKey": "%ssecret", "principal": "%s%s"}' \
        "$separator" "$who" "$who" "$who" "$prefix" "$who"
      separator=,
    done
    printf '}}\n'
  } >"$STATE/s3/$name.json"
}

# `admin` and `operator-admin` may anything, `operator-scoped` anything with buckets whose
# name begins with tz-; for the others nothing but the bucket policy speaks.
seaweedfs_identities() {
  local who actions separator=
  echo '{"identities": ['
  for who in admin operator-admin operator-scoped $PEOPLE; do
    case $who in
      admin | operator-admin) actions='"Admin"' ;;
      operator-scoped) actions='"Admin:tz-*"' ;;
      *) actions= ;;
    esac
    printf '%s{"name": "%s", "credentials": [{"accessKey": "%skey", "secretKey": "%ssecret"},
      {"accessKey": "%ssecondkey", "secretKey": "%ssecondsecret"}], "actions": [%s]}\n' \
      "$separator" "$who" "$who" "$who" "$who" "$who" "$actions"
    separator=,
  done
  echo ']}'
}

# SeaweedFS puts its sockets in /tmp under fixed names, where another one on the machine
# would take them over. So it gets a /tmp of its own, and places in /run for what it
# needs in case the checkout is in /tmp.
seaweedfs() {
  mkdir -p "$RUN/seaweedfs" /run/seaweedfs-tmp /run/seaweedfs
  seaweedfs_identities >"$RUN/seaweedfs/s3.json"
  touch /run/weed
  mount --bind "$(command -v weed)" /run/weed
  mount --bind "$RUN/seaweedfs" /run/seaweedfs
  # Small volumes, and one at a time for each bucket. By default, the free space of the disk limits their number, and with it
  # that of the buckets.
  daemon seaweedfs env WEED_MASTER_VOLUME_GROWTH_COPY_1=1 unshare --mount sh -c 'mount --bind /run/seaweedfs-tmp /tmp && cd / && exec "$@"' - \
    /run/weed mini -dir=/run/seaweedfs -ip="$HOST_IP" -ip.bind="$HOST_IP" -s3.config=/run/seaweedfs/s3.json \
    -master.volumeSizeLimitMB=64 -volume.max=4096 -s3.port.iceberg=0 -s3.port.lance=0 -admin.ui=false -webdav=false
  wait_for "SeaweedFS answers" $HANG answers seaweedfs
  server_file seaweedfs "http://$HOST_IP:8333" arn:aws:iam::000000000000:user/ admin operator-admin operator-scoped $PEOPLE
}

# Ceph: monitor, manager, one OSD in memory and the gateway. A lifecycle "day" lasts
# ten seconds, so tests see rules really expire objects: until `bed days` says otherwise.
ceph_configuration() {
  cat <<C
[global]
fsid = $1
mon_host = [v2:127.0.0.1:3300,v1:127.0.0.1:6789]
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_pool_default_pg_autoscale_mode = off
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 1000
mon_data_avail_warn = 1
mon_data_avail_crit = 0
run_dir = /run/ceph
admin_socket = /run/ceph/\$name.asok
log_file = $LOG/ceph-\$name.log
keyring = $RUN/ceph/keyring
mon_data = $RUN/ceph/mon
mgr_data = $RUN/ceph/mgr
osd_data = $RUN/ceph/osd
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
debug_ms = 0/0
debug_objecter = 0/0
debug_osd = 0/0
debug_rgw = 1/1
[osd]
osd_objectstore = memstore
memstore_device_bytes = 6442450944
keyring = $RUN/ceph/osd/keyring
[mgr]
keyring = $RUN/ceph/mgr/keyring
[client.rgw]
keyring = $RUN/ceph/rgw/keyring
rgw_frontends = beast endpoint=$HOST_IP:7480 tcp_nodelay=1
rgw_s3_auth_use_sts = true
rgw_sts_key = of-the-test-bed-
rgw_lc_debug_interval = 10
# A bucket's rules are gone through in 4 s, spent on waiting for its three workers: with one each, and more buckets at once,
# those of all tests take half a minute. A queue starts again after ten seconds, even if some of its
# buckets have not had their turn. So there are many queues.
rgw_lc_max_objs = 127
rgw_lc_max_worker = 8
rgw_lc_max_wp_worker = 1
rgw_override_bucket_index_max_shards = 1
rgw_dynamic_resharding = false
rgw_enable_usage_log = false
C
}

ceph_up() {
  local dir=$RUN/ceph fsid osd secret who
  mkdir -p "$dir"/{mon,mgr,osd,rgw} /run/ceph
  fsid=$(cat /proc/sys/kernel/random/uuid); osd=$(cat /proc/sys/kernel/random/uuid)
  ceph_configuration "$fsid" >"$dir/ceph.conf"
  ceph-authtool --create-keyring "$dir/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
  ceph-authtool "$dir/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
  monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:3300,v1:127.0.0.1:6789]" "$dir/monmap" >/dev/null
  ceph-mon -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"
  daemon ceph-mon ceph-mon -f -i a --keyring "$dir/keyring"
  # A monitor that gave up says why in its log; its clients would wait for it for five minutes.
  wait_for "Ceph's monitor answers" $HANG answers ceph-mon || { tail -n 3 "$LOG/ceph-mon.log" >&2; return 1; }
  ceph auth get-or-create mgr.x mon 'allow profile mgr' osd 'allow *' -o "$dir/mgr/keyring"
  daemon ceph-mgr ceph-mgr -f -i x
  secret=$(ceph-authtool --gen-print-key)
  echo "{\"cephx_secret\":\"$secret\"}" | ceph osd new "$osd" -i - >/dev/null
  ceph-authtool --create-keyring "$dir/osd/keyring" --name osd.0 --add-key "$secret" >/dev/null
  ceph-osd -i 0 --mkfs --osd-uuid "$osd" 2>/dev/null
  daemon ceph-osd ceph-osd -f -i 0
  ceph auth get-or-create client.rgw mon 'allow *' osd 'allow *' mgr 'allow *' -o "$dir/rgw/keyring"
  daemon ceph-rgw radosgw -f -n client.rgw
  wait_for "Ceph's gateway answers" $HANG answers ceph-rgw
  for who in admin $PEOPLE; do
    radosgw-admin user create --uid="$who" --display-name="$who" \
      --access-key="${who}key" --secret-key="${who}secret" >/dev/null
  done
  server_file ceph "http://$HOST_IP:7480" arn:aws:iam:::user/ admin $PEOPLE
  radosgw-admin caps add --uid=admin --caps="user-policy=*;oidc-provider=*" >/dev/null
  "$CACHE/venv/bin/python" "$BED/ceph-sts.py" "$STATE/s3/ceph.json" "$ISSUER" "$RUN/pki/sa.crt" $PEOPLE
  touch "$RUN/ceph.up"
}
