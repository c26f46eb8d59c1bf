#!/usr/bin/env bash
# conformance.sh BINARIES ORACLE SUITES: runs judges that others wrote against a private engine.
#   ORACLE  folder with the program `oracle` (transcripts recorded from Docker), or empty
#   SUITES  folder with built suites, or empty; what is not there is listed as not run
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$1" && pwd); oracle=${2:-} suites=${3:-}
dir=$(mktemp -d /tmp/wharf-conformance-XXXXXX); instance=wconf$$
unset DOCKER_HOST WHARF_HOST
failed=0
"$bin/wharf" daemon --root "$dir/root" --run "$dir/run" --instance $instance >"$dir/engine.log" 2>&1 & engine=$!
trap 'kill $engine 2>/dev/null; wait $engine 2>/dev/null; "$bin/wharf" system reset --force --root "$dir/root" --run "$dir/run" --instance $instance >/dev/null; rm -rf --one-file-system "$dir"' EXIT
for _ in $(seq 200); do curl -s --unix-socket "$dir/run/wharf.sock" http://wharf/_ping >/dev/null && break; sleep 0.05; done

if [ -x "$oracle/oracle" ]; then
  echo "== Docker transcripts"
  # What is listed in known/oracle.txt may differ.
  if ! "$oracle/oracle" "$dir/run/wharf.sock" | tee "$dir/transcripts"; then
    grep -oE '^DIFFERS [^ ]+' "$dir/transcripts" | cut -d' ' -f2 >"$dir/differing"
    grep -oE '^[a-z]+/[^ ]+' "$here/known/oracle.txt" | grep -vxFf - "$dir/differing" && failed=1
    [ -s "$dir/differing" ] || failed=1
  fi
else
  echo "== Docker transcripts: not run (ORACLE=DIR names no folder with the program oracle)"
fi
echo "== system containers"
if "$here/debian-root.sh" "$bin/../conformance/debian"; then
  "$here/system-container.sh" "$bin/wharf-runtime" "$bin/../conformance/debian" || failed=1
  "$here/system-image.sh" "$dir/run/wharf.sock" "$bin/../conformance/debian" || failed=1
  echo "== cgroups by systemd"
  "$here/systemd-cgroups.sh" "$bin/wharf-runtime" "$bin/../conformance/debian" || failed=1
else
  echo "not run: no Debian root could be made"; failed=1
fi
echo "== Docker, containerd and Podman with our runtime"
python3 "$here/peers" --runtime "$bin/wharf-runtime" --rounds "${PEER_ROUNDS:-100}" || failed=1
if [ -n "$suites" ]; then
  "$here/suites.sh" "$bin/wharf-runtime" "$suites" || failed=1
else
  echo "== other suites: not run (SUITES=DIR is not given)"
fi
echo "== the runtime on cgroup v2, in a machine of its own"
make --no-print-directory test-vm || failed=1
exit $failed
