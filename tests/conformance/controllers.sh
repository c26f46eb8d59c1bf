#!/usr/bin/env bash
# controllers.sh COMMAND [ARGUMENT..]: runs the command, in the mount namespace that this script is called in, with
# those hierarchies of version 1 mounted that the kernel has and the machine does not mount. Suites have tests of them.
set -uo pipefail
top=/sys/fs/cgroup made=()
if mountpoint -q $top/memory; then
  for name in hugetlb net_cls net_prio; do
    mountpoint -q "$top/$name" && continue
    mkdir "$top/$name" 2>/dev/null && made+=("$top/$name")
    mount -t cgroup -o $name cgroup "$top/$name" 2>/dev/null || echo "controllers: this machine has no $name" >&2
  done
fi
"$@"
code=$?
for directory in "${made[@]}"; do umount "$directory"; rmdir "$directory"; done
exit $code
