#!/bin/sh
# srv.sh RUNTIME DIR: fills DIR, which is /srv on a machine whose first process is systemd, with what
# systemd-inside.sh wants there: the runtime, and a root file system of busybox.
set -eu
mkdir -p "$2/bundle/rootfs/bin" "$2/bundle/rootfs/proc" "$2/bundle/rootfs/dev" "$2/bundle/rootfs/sys"
cp -L "$1" "$2/wharf-runtime"
cp "$(command -v busybox)" "$2/bundle/rootfs/bin/busybox"
for applet in sh sleep cat id head mknod; do ln -sf busybox "$2/bundle/rootfs/bin/$applet"; done
cp "$(dirname "$0")/systemd-inside.sh" "$2/inside.sh"
chmod -R a+rX "$2"
