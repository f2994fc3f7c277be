# shellcheck shell=bash
# Daemons of the bed by name: each has its command line and its PID under the run
# folder, so a test can stop one and start it again just as it was. Runs inside.
#   daemons.sh status | stop NAME | start NAME | days SECONDS|real
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# daemon NAME COMMAND…: start in the background, log to its own file.
daemon() {
  local name=$1; shift
  mkdir -p "$RUN/pid" "$RUN/command"
  printf '%q ' "$@" >"$RUN/command/$name"
  launch "$name"
}

launch() {
  setsid bash -c "exec $(cat "$RUN/command/$1")" >>"$LOG/$1.log" 2>&1 </dev/null 3>&- 9>&- &
  echo $! >"$RUN/pid/$1"
}

alive() { [ -e "$RUN/pid/$1" ] && kill -0 "$(cat "$RUN/pid/$1")" 2>/dev/null; }
ended() { ! alive "$1" || { echo "$1 still runs"; return 1; }; }
known() { [ -e "$RUN/command/$1" ] || die "no daemon '$1'; there are: $(cd "$RUN/command" && echo *)"; }

# answers NAME: does it do its work? Says what is missing when it does not; one that has ended never will.
answers() {
  [ ! -e "$RUN/pid/$1" ] || alive "$1" || { echo "it has ended; see $LOG/$1.log"; return 3; }
  case $1 in
    apiserver) readyz 6443 ;;
    apiserver-newest) readyz 7443 ;;
    containerd) ctr version ;;
    # The second asks its master for a place to write, which needs the volume server.
    seaweedfs) curl -sS -o /dev/null "http://$HOST_IP:8333/" && curl -sS --fail-with-body "http://$HOST_IP:9333/dir/assign" ;;
    ceph-mon) ceph --connect-timeout 5 mon stat ;;
    issuer) curl -sS -o /dev/null --fail "http://$HOST_IP:7481/keys" ;;
    ceph-rgw) curl -sS -o /dev/null "http://$HOST_IP:7480/" ;;
    cameras) (exec 3<>"/dev/tcp/$HOST_IP/8554") ;;
    *) alive "$1" || { echo "$1 does not run"; return 1; } ;;
  esac
}

# readyz PORT: prints only what is not ready.
readyz() {
  curl -sS --fail-with-body --max-time 5 --cacert "$RUN/pki/ca.crt" --cert "$RUN/pki/admin.crt" \
    --key "$RUN/pki/admin.key" "https://$HOST_IP:$1/readyz?verbose" | grep -v '^\[+\]'
}

status() {
  local name state code=0
  for name in "$RUN"/pid/*; do
    name=${name##*/}
    state=running; alive "$name" || { state=stopped; code=1; }
    printf '%-20s %-8s %s\n' "$name" "$state" "$(cat "$RUN/pid/$name")"
  done
  return $code
}

# An API server that is told to stop would wait long for its watches to end.
stop() {
  known "$1"; alive "$1" || return 0
  kill "$(cat "$RUN/pid/$1")"
  wait_for "$1 has ended" 5 ended "$1" 2>/dev/null || kill -9 "$(cat "$RUN/pid/$1")"
  wait_for "$1 has ended" $HANG ended "$1"
}

start() {
  known "$1"; alive "$1" || launch "$1"
  wait_for "$1 answers" $HANG answers "$1"
}

# days SECONDS|real: how long a day of Ceph's lifecycle lasts. Longer ones count at once. For shorter ones the gateway, which
# may sleep until midnight, is restarted: it makes buckets slowly until the one before is forgotten, half a minute later.
days() {
  local seconds=$1 name=rgw_lc_debug_interval
  [ -e "$CEPH_CONF" ] || return 0
  [ "$seconds" != real ] || seconds=-1
  if grep -qx -- "$name = $seconds" "$CEPH_CONF"; then return; fi
  sed -i "s/^$name = .*/$name = $seconds/" "$CEPH_CONF"
  if [ "$seconds" = -1 ]; then
    ceph --admin-daemon /run/ceph/client.rgw.asok config set "$name" "$seconds" >/dev/null
  else
    stop ceph-rgw
    start ceph-rgw
  fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then "$@"; fi
