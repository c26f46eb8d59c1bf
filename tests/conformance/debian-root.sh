#!/usr/bin/env bash
# debian-root.sh DIR: prepares a small Debian whose first process is systemd, once:
#   DIR/rootfs          as installed
#   DIR/shifted/rootfs  the same with every id raised by 100000, for a user namespace
# Needs mmdebstrap and a Debian mirror.
set -euo pipefail
mkdir -p "$1"; dir=$(cd "$1" && pwd) suite=${2:-bookworm}
[ -e "$dir/ready" ] && exit 0
rm -rf --one-file-system "$dir/rootfs" "$dir/shifted"; mkdir -p "$dir/rootfs" "$dir/shifted"
mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,uidmap \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" - | tar -C "$dir/rootfs" -xp --exclude='./dev/*'
rm -rf "$dir"/rootfs/var/cache/apt/* "$dir"/rootfs/var/lib/apt/lists/*
# Nothing that waits for a network or starts by the clock.
rm -rf "$dir"/rootfs/etc/systemd/system/timers.target.wants
cp -a "$dir/rootfs" "$dir/shifted/rootfs"
find "$dir/shifted/rootfs" -printf '%U:%G\n' | sort -u | while IFS=: read -r uid gid; do
  find "$dir/shifted/rootfs" -uid "$uid" -gid "$gid" -print0
  printf '%s:%s\0' "$((uid + 100000))" "$((gid + 100000))"
done > "$dir/owners"
# One pass over names decided before, so that nothing is raised twice.
names=()
while IFS= read -r -d '' item; do
  case $item in
    /*) names+=("$item") ;;
    *) printf '%s\0' "${names[@]}" | xargs -0 -r chown -h "$item"; names=() ;;
  esac
done < "$dir/owners"
rm "$dir/owners"; touch "$dir/ready"
