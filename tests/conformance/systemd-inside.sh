#!/bin/sh
# systemd-inside.sh: on a machine, or in a box, whose first process is systemd. Wants /srv/wharf-runtime and /srv/bundle
# (see srv.sh). Run by a user, it is about the user's systemd, and the containers are in a user namespace.
set -u
failed=0 patience=${PATIENCE_SECONDS:-60}
work=$(mktemp -d /tmp/inside-XXXXXX); chmod 755 "$work"
[ -d /sys/fs/cgroup/cpu ] || [ -d /sys/fs/cgroup/memory ] && version=1 || version=2
# Where the manager keeps its units, its name for a container's own slice, and the namespace of a user.
if [ "$(id -u)" = 0 ]; then
  top='' default=system.slice manager=system space='' mappings=''
else
  top=/user.slice/user-$(id -u).slice/user@$(id -u).service default=user.slice manager=user space=',{"type":"user"}'
  mappings=",\"uidMappings\":[{\"containerID\":0,\"hostID\":$(id -u),\"size\":1}]"
  mappings="$mappings,\"gidMappings\":[{\"containerID\":0,\"hostID\":$(id -g),\"size\":1}]"
fi

systemctl() { command systemctl "--$manager" "$@"; }
oci() { /srv/wharf-runtime --root "$work/state" --systemd-cgroup "$@"; }

# config CGROUPSPATH RESOURCES ANNOTATIONS: writes $work/config.json.
config() {
  cat >"$work/config.json" <<JSON
{"ociVersion":"1.2.0","root":{"path":"/srv/bundle/rootfs"},"annotations":{$3},
 "process":{"user":{"uid":0,"gid":0},"args":["sleep","1000"],"cwd":"/","env":["PATH=/bin"]},
 "mounts":[{"destination":"/proc","type":"proc","source":"proc"},
  {"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]},
  {"destination":"/sys","type":"sysfs","source":"sysfs","options":["ro"]},
  {"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["ro"]}],
 "linux":{"cgroupsPath":"$1","resources":{$2}$mappings,
  "namespaces":[{"type":"pid"},{"type":"mount"},{"type":"uts"},{"type":"ipc"},{"type":"network"},{"type":"cgroup"}$space]}}
JSON
}
create() { oci create --bundle "$work" "$1" </dev/null >"$work/log" 2>&1 || { cat "$work/log"; return 1; }; oci start "$1"; }
shown() { systemctl show --property "$2" --value "$1"; }
pid_of() { oci state "$1" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p'; }
fail() { echo "  $*"; return 1; }
same() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }
# limit_file NAME1 NAME2: content of the limit's file in the container's group, by version.
limit_file() {
  if [ $version = 1 ]; then cat "/sys/fs/cgroup/${1%%.*}/$path/$1"; else cat "/sys/fs/cgroup/$path/$2"; fi
}

a_scope_has_the_limits() {
  limits='"memory":{"limit":67108864},"pids":{"limit":30},"cpu":{"shares":512,"quota":20000,"period":100000}'
  config machine.slice:wharf:c1 "$limits" '"org.systemd.property.TimeoutStopSec":"uint32 7","org.systemd.property.CollectMode":"'"'inactive-or-failed'"'"'
  create c1 || return 1
  path=${top#/}${top:+/}machine.slice/wharf-c1.scope
  same ActiveState "$(shown wharf-c1.scope ActiveState)" active || return 1
  same ControlGroup "$(shown wharf-c1.scope ControlGroup)" "/$path" || return 1
  same Delegate "$(shown wharf-c1.scope Delegate)" yes || return 1
  same TasksMax "$(shown wharf-c1.scope TasksMax)" 30 || return 1
  same CPUQuotaPerSecUSec "$(shown wharf-c1.scope CPUQuotaPerSecUSec)" 200ms || return 1
  same TimeoutStopUSec "$(shown wharf-c1.scope TimeoutStopUSec)" 7s || return 1
  same CollectMode "$(shown wharf-c1.scope CollectMode)" inactive-or-failed || return 1
  if [ $version = 1 ]; then word=MemoryLimit; else word=MemoryMax; fi
  same $word "$(shown wharf-c1.scope $word)" 67108864 || return 1
  same "the file" "$(limit_file memory.limit_in_bytes memory.max)" 67108864 || return 1
  grep -q "/$path\$" "/proc/$(pid_of c1)/cgroup" || fail "init is elsewhere: $(cat "/proc/$(pid_of c1)/cgroup")" || return 1
  same "processes in the scope" "$(wc -l <"$(if [ $version = 1 ]; then echo /sys/fs/cgroup/systemd; else echo /sys/fs/cgroup; fi)/$path/cgroup.procs")" 1
}
limits_outlive_a_reload_of_systemd() {
  systemctl daemon-reload && same "the file" "$(limit_file pids.max pids.max)" 30
}
devices_are_limited_and_stay_so_over_a_reload() {
  systemctl daemon-reload
  oci exec c1 sh -c 'echo x >/dev/null && cat /dev/zero | head -c 1 >/dev/null' || fail "a default device is forbidden" || return 1
  # A node that may be made but not used.
  [ -e "$work/node" ] || mknod "$work/node" c 10 229
  ! oci exec c1 sh -c 'mknod /dev/fuse c 10 229 && cat /dev/fuse' 2>/dev/null || fail "another device may be used"
}
update_tells_systemd() {
  oci update --pids-limit 40 --cpu-quota 50000 --cpu-period 100000 c1 || return 1
  same TasksMax "$(shown wharf-c1.scope TasksMax)" 40 || return 1
  same CPUQuotaPerSecUSec "$(shown wharf-c1.scope CPUQuotaPerSecUSec)" 500ms || return 1
  same "the file" "$(limit_file pids.max pids.max)" 40
}
exec_joins_the_scope() {
  out=$(oci exec c1 cat /proc/self/cgroup) || return 1
  echo "$out" | grep -qE '^[0-9]+:(name=systemd|pids|):/$' || fail "$out"
}
pause_and_resume_work() {
  oci pause c1 || return 1
  oci state c1 | grep -q '"paused"' || fail "not paused" || return 1
  oci resume c1
}
a_unit_that_runs_is_not_taken() {
  config machine.slice:wharf:c1 '' ''
  ! create c2 >"$work/out" 2>&1 || fail "it was" || return 1
  grep -q 'wharf-c1.scope' "$work/out" || fail "$(cat "$work/out")" || return 1
  same ActiveState "$(shown wharf-c1.scope ActiveState)" active
}
delete_removes_the_unit() {
  oci delete --force c1 || return 1
  same LoadState "$(shown wharf-c1.scope LoadState)" not-found || return 1
  left=$(find /sys/fs/cgroup -name 'wharf-c1.scope'); [ -z "$left" ] || fail "left: $left"
}
an_unnamed_container_is_in_the_default_slice() {
  config '' '' ''
  create c3 && same ControlGroup "$(shown wharf-c3.scope ControlGroup)" "$top/$default/wharf-c3.scope" && oci delete --force c3
}
a_subgroup_holds_the_container() {
  config machine.slice:wharf:c4 '"pids":{"limit":9}' '"run.oci.systemd.subgroup":"inner"'
  create c4 || return 1
  grep -q '/wharf-c4.scope/inner$' "/proc/$(pid_of c4)/cgroup" || fail "$(cat "/proc/$(pid_of c4)/cgroup")" || return 1
  path=${top#/}${top:+/}machine.slice/wharf-c4.scope/inner
  oci exec c4 cat /proc/self/cgroup | grep -qE '^[0-9]+:(name=systemd|pids|):/$' || fail "exec is elsewhere" || return 1
  same "the file" "$(limit_file pids.max pids.max)" 9 && oci delete --force c4
}
the_bus_works_as_systemds_own_socket_does() {
  config machine.slice:wharf:c5 '' ''
  if [ $manager = system ]; then set -- DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket
  else set -- XDG_RUNTIME_DIR= DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$(id -u)/bus"; fi
  (export "$@"; create c5) || return 1
  (export "$@"; oci delete --force c5) && same LoadState "$(shown wharf-c5.scope LoadState)" not-found
}
crun_s_option_means_the_same() {
  config machine.slice:wharf:c6 '' ''
  /srv/wharf-runtime --root "$work/state" --cgroup-manager=systemd run -d --bundle "$work" c6 </dev/null >/dev/null || return 1
  same ActiveState "$(shown wharf-c6.scope ActiveState)" active && oci delete --force c6
}
wrong_paths_and_properties_are_named() {
  config /a/b '' ''
  create c7 | grep -q 'linux.cgroupsPath: expected "slice:prefix:name"' || fail "$(cat "$work/log")" || return 1
  config machine.slice:wharf:c7 '' '"org.systemd.property.NoSuchThing":"true"'
  create c7 | grep -q NoSuchThing || fail "$(cat "$work/log")" || return 1
  [ ! -e "$work/state/c7" ] || fail "its state is left" || return 1
  same LoadState "$(shown wharf-c7.scope LoadState)" not-found
}
a_container_that_ended_leaves_no_unit() {
  config machine.slice:wharf:c8 '' ''
  sed -i 's/"sleep","1000"/"sh","-c","exit 3"/' "$work/config.json"
  oci run --bundle "$work" c8 </dev/null; same "exit code" $? 3 || return 1
  same LoadState "$(shown wharf-c8.scope LoadState)" not-found
}

# Of devices a user's systemd knows nothing.
devices=devices_are_limited_and_stay_so_over_a_reload; [ $manager = system ] || devices=
for case in a_scope_has_the_limits limits_outlive_a_reload_of_systemd $devices \
  update_tells_systemd exec_joins_the_scope pause_and_resume_work a_unit_that_runs_is_not_taken delete_removes_the_unit \
  an_unnamed_container_is_in_the_default_slice a_subgroup_holds_the_container the_bus_works_as_systemds_own_socket_does \
  crun_s_option_means_the_same wrong_paths_and_properties_are_named a_container_that_ended_leaves_no_unit; do
  if $case; then echo "ok $case"; else echo "FAILED $case"; failed=1; fi
done
for id in $(ls "$work/state" 2>/dev/null); do oci delete --force "$id"; done
rm -rf "$work"
exit $failed
