#!/bin/sh
# systemd-cgroups.sh RUNTIME ROOTS: the runtime under a systemd that makes its cgroups. Boots Debian in a container and
# runs systemd-inside.sh there. RUNTIME must be static, or fit Debian's C library. Prints one line per case.
. "$(dirname "$0")/box.sh"

here=$(cd "$(dirname "$0")" && pwd)
share=$work/share
"$here/srv.sh" "$runtime" "$share" || exit 1
chmod a+rX "$work"
bind="{\"destination\":\"/srv\",\"type\":\"bind\",\"source\":\"$share\",\"options\":[\"rbind\"]}"
bundle host "$roots/rootfs" "$docker_caps $more_caps" 'pid network ipc uts mount cgroup' '' "$bind"
# The containers inside mount a /proc of their own, which a covered one would forbid to users.
sed -i 's/"maskedPaths":\[[^]]*\]/"maskedPaths":[]/; s/"readonlyPaths":\[[^]]*\]/"readonlyPaths":[]/' "$work/host/config.json"
up host || exit 1
oci exec --env PATIENCE_SECONDS="$patience" host sh /srv/inside.sh || failed=1
oci kill host RTMIN+3 && await "$patience" is_down host || { echo "FAILED the host did not shut down"; failed=1; }
oci delete --force host
exit $failed
