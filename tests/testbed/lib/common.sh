# shellcheck shell=bash
# Names, places and small helpers that every part of the bed shares. Sourced, never run.

BED=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)      # tests/testbed
ROOT=$(cd "$BED/../.." && pwd)                            # the checkout
STATE=$ROOT/target/testbed
RUN=$STATE/run                                            # state of the running bed; gone after `bed down`
LOG=$STATE/log                                            # kept after `bed down`, cleared by `bed up`
CACHE=$(realpath -m "${TOEZICHT_TESTBED_CACHE:-$STATE/cache}")   # what `setup` made; may be shared by checkouts
# One bed a checkout: its name comes from the path, so that two checkouts do not meet.
NAME=toezicht-$(printf %s "$ROOT" | sha256sum | cut -c1-8)
# Named after what is in it, so that a new image is a change of the pods that run it.
image_name() { echo "localhost/toezicht:$(cut -c1-12 "$STATE/image/stamp" 2>/dev/null || echo none)"; }
# Where the tools of Ceph find the bed's own.
export CEPH_CONF=$RUN/ceph/ceph.conf
# The bridge's own address: where pods reach the API server, S3 and the cameras.
HOST_IP=10.244.0.1

# What `toolchain` installed comes before what the machine had, which was too old.
export PATH=$CACHE/bin:$CACHE/venv/bin:$CACHE/go/bin:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin:$PATH

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }
die() { echo "bed: $*" >&2; exit 1; }

# Seconds after which something hangs. It says nothing about speed: the machine may be busy with other tests.
HANG=300

# wait_for WHAT SECONDS COMMAND…: polls until COMMAND succeeds; at the limit, or if COMMAND returns 3 because it never
# will, it says what COMMAND printed last.
wait_for() {
  local what=$1 limit=$2 end seen code; shift 2
  end=$((SECONDS + limit))
  until seen=$("$@" 2>&1); do
    code=$?
    if ((code == 3 || SECONDS >= end)); then
      echo "bed: not within ${limit} s: $what; last seen: ${seen:-nothing}" >&2
      return 1
    fi
    sleep 0.2
  done
}

# All that the bed starts carries its name in the environment (containers do not, but
# they are in its PID namespace): no pid files that could be stale.
MARK=TOEZICHT_BED=$NAME
marked() { grep -lzxF "$MARK" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }

# PID (as the machine sees it) of the first process of the bed's PID namespace.
init_pid() { pgrep -f "^/usr/bin/python3 .*/lib/init\.py $NAME " | head -n1; }

# PID of the first process of the second node; nothing if that does not run.
second_pid() { pgrep -f "^/usr/bin/python3 .*/lib/init\.py $NAME-second " | head -n1 || true; }

# Are we ourselves inside the bed?
inside() { tr '\0' ' ' </proc/1/cmdline | grep -q "/lib/init\.py $NAME "; }

# Mount points of the machine's cgroup hierarchies (several with cgroup v1, one with v2).
cgroup_mounts() { awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/self/mounts; }
