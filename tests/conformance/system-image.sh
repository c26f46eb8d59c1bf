#!/bin/sh
# system-image.sh SOCKET ROOTS: boots an image with systemd by the docker command line, as docs/system-containers.md
# says, and shuts it down by `docker stop`.
#   SOCKET  the engine's
#   ROOTS   folder made by debian-root.sh
# Prints one line; exits 1 if something is not as it should be.
set -u
export DOCKER_HOST=unix://$1 DOCKER_CLI_HINTS=false
roots=$2 image=wharf-system-image name=system-image-$$ failed=
trap 'docker rm -fv $name >/dev/null 2>&1; docker rmi $image >/dev/null 2>&1' EXIT

say() { failed=yes; echo "  $*"; }
inside() { docker exec "$name" "$@"; }
# systemd listens a moment after it was executed.
await() { # SECONDS COMMAND...
  left=$1; shift
  until "$@" >/dev/null 2>&1; do left=$((left - 1)); [ "$left" -gt 0 ] || return 1; sleep 1; done
}

tar -C "$roots/rootfs" -c . | docker import - $image >/dev/null || exit 1
docker run -d --name "$name" --stop-signal SIGRTMIN+3 --cgroupns private --security-opt writable-cgroups=true \
  --tmpfs /run --tmpfs /run/lock --tmpfs /tmp -e container=docker $image /sbin/init >/dev/null || exit 1
await 60 inside systemctl is-system-running --wait || say "not running: $(inside systemctl is-system-running)"
units=$(inside systemctl --failed --no-legend --plain); [ -z "$units" ] || say "failed units: $units"
# Another's exec must not hinder systemd, nor be ended by it.
inside systemd-run --quiet --wait --pipe sh -c 'grep -q "/system.slice/run-" /proc/self/cgroup' ||
  say "a transient service did not run"
inside systemd-run --quiet --unit witness sh -c \
  'trap "echo clean >/var/witness; exit" TERM; echo ready >/var/witness; while :; do sleep 0.1; done' || say "no witness"
# systemd-run ends before the shell has set its trap.
await 60 inside grep -qs ready /var/witness || say "the witness did not run"
docker restart -t 60 "$name" >/dev/null || say "no restart"
inside cat /var/witness 2>/dev/null | grep -q clean || say "services were not stopped in order"
await 60 inside systemctl is-system-running --wait || say "not running after a restart"
docker stop -t 60 "$name" >/dev/null || say "no stop"
code=$(docker inspect -f '{{.State.ExitCode}}' "$name"); [ "$code" = 0 ] || say "ended with $code"
if [ -n "$failed" ]; then echo "FAILED docker-run"; exit 1; else echo "ok docker-run"; fi
