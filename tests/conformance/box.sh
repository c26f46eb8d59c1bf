# box.sh RUNTIME ROOTS, to be sourced: boots Debian's systemd in containers of an OCI runtime.
#   RUNTIME  path of the runtime
#   ROOTS    folder made by debian-root.sh
# Needs root and no other program than a POSIX shell's.
set -u
runtime=$(cd "$(dirname "$1")" && pwd)/$(basename "$1") roots=$(cd "$2" && pwd) failed=0
work=$(mktemp -d /tmp/wharf-system-XXXXXX)
# A slow machine, such as one that is emulated, sets more.
patience=${PATIENCE_SECONDS:-60}
docker_caps='CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE'
more_caps='SYS_ADMIN SYS_BOOT SYS_RESOURCE NET_ADMIN SYS_NICE DAC_READ_SEARCH SYS_PTRACE IPC_OWNER LEASE SYS_TTY_CONFIG'

oci() { "$runtime" --root "$work/state" "$@"; }
cleanup() {
  for id in $(ls "$work/state" 2>/dev/null); do oci delete --force "$id"; done
  find /sys/fs/cgroup -depth -type d -path "*/wharf-system-$$*" -exec rmdir {} \; 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

mount_json() { # DESTINATION TYPE OPTION...
  destination=$1 kind=$2; shift 2
  options=; for option in "$@"; do options="$options${options:+,}\"$option\""; done
  printf '{"destination":"%s","type":"%s","source":"%s","options":[%s]}' "$destination" "$kind" "$kind" "$options"
}

# bundle NAME ROOTFS CAPS NAMESPACES MAPPINGS [MOUNT...]: writes $work/NAME/config.json.
bundle() {
  name=$1 rootfs=$2 mapping=$5
  caps=; for cap in $3; do caps="$caps${caps:+,}\"CAP_$cap\""; done
  spaces=; for space in $4; do spaces="$spaces${spaces:+,}{\"type\":\"$space\"}"; done
  shift 5
  more=; for mount in "$@"; do more="$more,$mount"; done
  mkdir -p "$work/$name"
  cat >"$work/$name/config.json" <<JSON
{"ociVersion":"1.2.0","hostname":"box","root":{"path":"$rootfs"},
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
  $(mount_json /tmp tmpfs nosuid nodev mode=1777)$more],
 "linux":{"cgroupsPath":"/wharf-system-$$/$name","namespaces":[$spaces]$mapping,
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

# up NAME: creates, starts and waits until it has booted.
up() {
  oci create --bundle "$work/$1" "$1" </dev/null >"$work/$1/log" 2>&1 && oci start "$1" || { sed "s/^/  /" "$work/$1/log"; return 1; }
  await "$patience" is_up "$1" || { echo "  did not boot: $(oci exec "$1" systemctl is-system-running 2>&1)"; return 1; }
}
