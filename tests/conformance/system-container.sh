#!/bin/sh
# system-container.sh RUNTIME ROOTS: boots Debian's systemd in containers of an OCI runtime and shuts it down.
#   RUNTIME  path of the runtime
#   ROOTS    folder made by debian-root.sh
# Needs root and no other program than a POSIX shell's. Prints one line per case; exits 1 if one failed.
. "$(dirname "$0")/box.sh"

# boots NAME SIGNAL: from create to a stop by the signal.
boots() {
  up "$1" || return 1
  units=$(oci exec "$1" systemctl --failed --no-legend --plain) || return 1
  [ -z "$units" ] || { echo "  failed units: $units"; return 1; }
  oci exec "$1" sh -c 'grep -q "/init.scope$" /proc/1/cgroup' || { echo "  systemd does not manage its cgroup"; return 1; }
  oci exec "$1" systemd-run --quiet --wait --pipe sh -c 'grep -q "/system.slice/run-" /proc/self/cgroup' ||
    { echo "  a transient service did not run"; return 1; }
  # The files of the journal are written by a unit that the shutdown stops.
  oci exec "$1" systemd-run --quiet --unit witness sh -c 'trap "echo clean >/var/witness; exit" TERM; echo ready >/var/witness; while :; do sleep 0.1; done' ||
    return 1
  # systemd-run ends before the shell has set its trap.
  await "$patience" grep -qs ready "$root/var/witness" || { echo "  a service did not run"; return 1; }
  oci kill "$1" "$2" || return 1
  await "$patience" is_down "$1" || { echo "  did not shut down"; return 1; }
  grep -q clean "$root/var/witness" || { echo "  services were not stopped in order"; return 1; }
  oci delete "$1" || return 1
  left=$(find /sys/fs/cgroup -path "*/wharf-system-$$/$1*" -type d 2>/dev/null | head -3)
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
exit $failed
