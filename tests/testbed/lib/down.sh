# shellcheck shell=bash
# Stopping, and proving that nothing is left. Sourced by `bed`, runs outside.

down() {
  ! inside || die "run bed down from outside the bed"
  local begin=$SECONDS
  clear_away
  check_clean
  say "down after $((SECONDS - begin)) s; nothing left of $NAME"
}

# Ends everything whatever state it is in. The kernel does the work: killing the init
# of the PID namespace ends all processes, and their mounts and network go with them.
# Only cgroups and files stay, so these are removed here.
clear_away() {
  wait_for "all processes of the bed have ended" $HANG end_processes
  wait_for "the bed's cgroups are removed" $HANG remove_cgroups
  rm -rf "$RUN" "$STATE/s3"
}

end_processes() {
  local pid
  for pid in $(init_pid) $(marked); do kill -9 "$pid" 2>/dev/null || true; done
  no_process
}

remove_cgroups() {
  local mount
  for mount in $(cgroup_mounts); do
    [ ! -d "$mount/$NAME" ] || find "$mount/$NAME" -depth -type d -exec rmdir {} + || return 1
  done
}

# Once the init is gone so is its whole PID namespace: the kernel sees to that before
# it lets go of the init.
no_process() {
  local pid found
  found=$(for pid in $(init_pid) $(marked); do
    echo "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
  done)
  [ -z "$found" ] || { echo "$found"; return 1; }
}

no_mount() {
  local found
  found=$(grep -hF " $RUN/" /proc/[0-9]*/mountinfo 2>/dev/null | sort -u | head -n5 || true)
  [ -z "$found" ] || { echo "$found"; return 1; }
}

no_cgroup() {
  local mount
  for mount in $(cgroup_mounts); do
    [ ! -e "$mount/$NAME" ] || { echo "$mount/$NAME"; return 1; }
  done
}

no_bridge() {
  # The bridge and the pods' interfaces live in the bed's namespace, never in ours.
  local found
  found=$(ip -o addr show | grep -F " $HOST_IP/" || true)
  [ -z "$found" ] || { echo "$found"; return 1; }
}

no_files() { [ ! -e "$RUN" ] || { echo "$RUN"; return 1; }; }

check_clean() {
  local what bad=0
  for what in process mount cgroup bridge files; do
    wait_for "no $what is left" 5 "no_$what" || bad=1
  done
  ((bad == 0)) || die "$NAME is not clean"
}
