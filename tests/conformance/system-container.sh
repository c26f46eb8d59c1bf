#!/bin/sh
# system-container.sh RUNTIME ROOTS: boots Debian's systemd in containers of an OCI runtime and shuts it down.
#   RUNTIME  path of the runtime
#   ROOTS    folder made by debian-root.sh
# Needs root and no other program than a POSIX shell's. Prints one line per case; exits 1 if one failed.
set -u
runtime=$1 roots=$(cd "$2" && pwd) failed=0
work=$(mktemp -d /tmp/wharf-system-XXXXXX)
# A slow machine, such as one that is emulated, sets more.
patience=${PATIENCE_SECONDS:-60}
docker_caps='CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE'
more_caps='SYS_ADMIN SYS_BOOT SYS_RESOURCE NET_ADMIN SYS_NICE DAC_READ_SEARCH SYS_PTRACE IPC_OWNER LEASE SYS_TTY_CONFIG'

oci() { "$runtime" --root "$work/state" "$@"; }
cleanup() { for id in $(ls "$work/state" 2>/dev/null); do oci delete --force "$id"; done; rm -rf "$work"; }
trap cleanup EXIT

mount_json() { # DESTINATION TYPE OPTION...
  destination=$1 kind=$2; shift 2
  options=; for option in "$@"; do options="$options${options:+,}\"$option\""; done
  printf '{"destination":"%s","type":"%s","source":"%s","options":[%s]}' "$destination" "$kind" "$kind" "$options"
}

# bundle NAME ROOTFS CAPS NAMESPACES MAPPINGS: writes $work/NAME/config.json.
bundle() {
  caps=; for cap in $3; do caps="$caps${caps:+,}\"CAP_$cap\""; done
  spaces=; for space in $4; do spaces="$spaces${spaces:+,}{\"type\":\"$space\"}"; done
  mkdir -p "$work/$1"
  cat >"$work/$1/config.json" <<JSON
{"ociVersion":"1.2.0","hostname":"box","root":{"path":"$2"},
 "process":{"user":{"uid":0,"gid":0},"args":["/sbin/init"],"cwd":"/",
  "env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","container=oci"],
  "capabilities":{"bounding":[$caps],"effective":[$caps],"permitted":[$caps]}},
 "mounts":[$(mount_json /proc proc),
  $(mount_json /dev tmpfs nosuid mode=755 size=64k),
  $(mount_json /dev/pts devpts nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5),
  $(mount_json /dev/shm tmpfs nosuid nodev mode=1777),
  $(mount_json /sys sysfs nosuid noexec nodev ro),
  $(mount_json /sys/fs/cgroup cgroup nosuid noexec nodev relatime),
  $(mount_json /run tmpfs nosuid nodev mode=755),
  $(mount_json /run/lock tmpfs nosuid nodev noexec mode=1777),
  $(mount_json /tmp tmpfs nosuid nodev mode=1777)],
 "linux":{"cgroupsPath":"/wharf-system-$$/$1","namespaces":[$spaces]$5,
  "maskedPaths":["/proc/kcore","/proc/keys","/proc/timer_list","/sys/firmware"],
  "readonlyPaths":["/proc/bus","/proc/sys","/proc/sysrq-trigger"]}}
JSON
}

# await SECONDS COMMAND...: until the command succeeds.
await() {
  turns=$(($1 * 5)); shift
  while [ "$turns" -gt 0 ]; do
    "$@" >/dev/null 2>&1 && return 0
    turns=$((turns - 1)); sleep 0.2
  done
  return 1
}
is_up() { case $(oci exec "$1" systemctl is-system-running) in running | degraded) ;; *) return 1 ;; esac; }
is_down() { oci state "$1" | grep -q '"status": *"stopped"'; }

# boots NAME SIGNAL: from create to a stop by the signal.
boots() {
  oci create --bundle "$work/$1" "$1" </dev/null >"$work/$1/log" 2>&1 && oci start "$1" || { sed "s/^/  /" "$work/$1/log"; return 1; }
  await "$patience" is_up "$1" || { echo "  did not boot: $(oci exec "$1" systemctl is-system-running 2>&1)"; return 1; }
  units=$(oci exec "$1" systemctl --failed --no-legend --plain) || return 1
  [ -z "$units" ] || { echo "  failed units: $units"; return 1; }
  oci exec "$1" sh -c 'grep -q "/init.scope$" /proc/1/cgroup' || { echo "  systemd does not manage its cgroup"; return 1; }
  oci exec "$1" systemd-run --quiet --wait --pipe sh -c 'grep -q "/system.slice/run-" /proc/self/cgroup' ||
    { echo "  a transient service did not run"; return 1; }
  # The files of the journal are written by a unit that the shutdown stops.
  oci exec "$1" systemd-run --quiet --unit witness sh -c 'trap "echo clean >/var/witness; exit" TERM; while :; do sleep 0.1; done' || return 1
  oci kill "$1" "$2" || return 1
  await "$patience" is_down "$1" || { echo "  did not shut down"; return 1; }
  grep -q clean "$root/var/witness" || { echo "  services were not stopped in order"; return 1; }
  oci delete "$1" || return 1
  left=$(find /sys/fs/cgroup -path "*/wharf-system-$$/$1*" -type d | head -3)
  [ -z "$left" ] || { echo "  left: $left"; return 1; }
}

check() { # NAME ROOTFS CAPS NAMESPACES MAPPINGS SIGNAL
  root=$2; rm -f "$root/var/witness"
  bundle "$1" "$2" "$3" "$4" "$5"
  if boots "$1" "$6"; then echo "ok $1"; else echo "FAILED $1"; failed=1; oci delete --force "$1"; fi
  rm -f "$root/var/witness"
}

kinds='pid network ipc uts mount cgroup'
map='[{"containerID":0,"hostID":100000,"size":65536}]'
maps=",\"uidMappings\":$map,\"gidMappings\":$map"
check docker-rights "$roots/rootfs" "$docker_caps" "$kinds" "" RTMIN+3
check more-rights "$roots/rootfs" "$docker_caps $more_caps" "$kinds" "" SIGRTMIN+3
check user-namespace "$roots/shifted/rootfs" "$docker_caps" "$kinds user" "$maps" 37
check user-namespace-more-rights "$roots/shifted/rootfs" "$docker_caps $more_caps" "$kinds user" "$maps" RTMIN+3
find /sys/fs/cgroup -depth -type d -name "wharf-system-$$" -exec rmdir {} \; 2>/dev/null
exit $failed
