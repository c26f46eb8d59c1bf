#!/usr/bin/env bash
# The main job, narrated and timed: demo.sh DIRECTORY-OF-BINARIES
# Every step checks itself; the first failure ends the demo with a non-zero exit, and nothing stays behind.
set -euo pipefail

bin=$(cd "${1:?usage: demo.sh DIRECTORY-OF-BINARIES}" && pwd)
[ "$(id -u)" -eq 0 ] || { echo "make demo needs root: namespaces, cgroups and nftables belong to it" >&2; exit 1; }
wharf=$bin/wharf
dir=$(mktemp -d /tmp/wharf-demo-XXXXXX)
instance=wdemo$$
export WHARF_HOST=unix://$dir/run/wharf.sock DOCKER_CONFIG=$dir/client
unset DOCKER_HOST
engine= registry=

bold=$(tput bold 2>/dev/null || true); dim=$(tput dim 2>/dev/null || true); off=$(tput sgr0 2>/dev/null || true)
now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo $((t / 1000)); }
begin=$(now_ms); step_begin=$begin
chapter() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
show() { printf '  %s$ %s%s\n' "$dim" "${*/#$wharf/wharf}" "$off"; step_begin=$(now_ms); "$@" 2>&1 | sed 's/^/  /'; }
done_in() { printf '  %sok: %s (%d ms)%s\n' "$dim" "$1" $(($(now_ms) - step_begin)) "$off"; }
fail() { printf '\nFAILED: %s\n' "$*" >&2; [ -s "$dir/engine.log" ] && { echo "--- engine log"; tail -30 "$dir/engine.log"; } >&2; exit 1; }
expect() { [ "$2" = "$3" ] || fail "$1: expected '$3', got '$2'"; done_in "$1"; }
matches() { case $2 in *$3*) done_in "$1" ;; *) fail "$1: '$3' is not in '$2'" ;; esac; }
w() { "$wharf" "$@"; }
# capture VARIABLE COMMAND...: its output, timed from here
capture() { local -n into=$1; step_begin=$(now_ms); into=$("${@:2}"); }
soon() { local i; for ((i = 0; i < 100; i++)); do "${@:2}" >/dev/null 2>&1 && { done_in "$1"; return; }; sleep 0.05; done; fail "$1: not within 5 s"; }

start_engine() {
  "$wharf" daemon --root "$dir/root" --run "$dir/run" --instance "$instance" >>"$dir/engine.log" 2>&1 &
  engine=$!
  local i
  for ((i = 0; i < 200; i++)); do
    "$wharf" version >/dev/null 2>&1 && return
    kill -0 $engine 2>/dev/null || fail "the engine ended"
    sleep 0.02
  done
  fail "the engine does not answer"
}
clean_up() {
  local code=$?
  [ -n "$engine" ] && kill -TERM "$engine" 2>/dev/null && { wait "$engine" 2>/dev/null || true; }
  [ -n "$registry" ] && kill "$registry" 2>/dev/null && { wait "$registry" 2>/dev/null || true; }
  "$wharf" system reset --force --root "$dir/root" --run "$dir/run" --instance "$instance" >/dev/null 2>&1 || true
  rm -rf --one-file-system "$dir"
  exit $code
}
trap clean_up EXIT
trap 'exit 130' INT TERM

chapter "A private engine: its own root, run directory and instance name ($instance)"
step_begin=$(now_ms); start_engine; done_in "the engine answers"

chapter "1. A first container, from the image that is inside the engine"
show "$wharf" run --rm hello
done_in "it ran, without registry or network"

chapter "2. An image from a Dockerfile, through a registry and back"
mkdir -p "$dir/context"; cp "$(command -v busybox)" "$dir/context/busybox"
cat > "$dir/context/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin
CMD ["sh"]
DOCKERFILE
port=$(( (RANDOM % 20000) + 20000 )); address=127.0.0.1:$port
cat > "$dir/registry.yml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $dir/registry}, delete: {enabled: true}}
http: {addr: $address}
YAML
docker-registry serve "$dir/registry.yml" >"$dir/registry.log" 2>&1 & registry=$!
soon "docker-registry listens on $address" curl -fs "http://$address/v2/"
image=$address/demo/busybox:1
show "$wharf" build -t "$image" "$dir/context"
show "$wharf" push "$image"
id=$(w image inspect -f '{{.Id}} {{index .RepoDigests 0}}' "$image")
w rmi "$image" >/dev/null
w builder prune -af >/dev/null # its layers must not wait in the build cache either
w image inspect "$image" >/dev/null 2>&1 && fail "the image is still there"
show "$wharf" pull "$image"
expect "pulled back, digest identical" "$(w image inspect -f '{{.Id}} {{index .RepoDigests 0}}' "$image")" "$id"

chapter "3. Limits, a network, a published port and a volume"
w network create demo >/dev/null
published=$(( (RANDOM % 10000) + 40000 ))
show "$wharf" run -d --name web --network demo -p "$published:80" -v pages:/www --memory 64m --cpus 0.5 --pids-limit 50 \
  "$image" sh -c 'echo "served by Wharf" > /www/index.html; echo ready; exec httpd -f -v -p 80 -h /www'
soon "curl reaches the published port" curl -fs "http://127.0.0.1:$published/"
step_begin=$(now_ms); expect "the page came from the volume" "$(curl -fs "http://127.0.0.1:$published/")" "served by Wharf"
capture out w run --rm --network demo "$image" wget -qO- http://web/; expect "a second container finds the first by its name" "$out" "served by Wharf"
capture out w exec web sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max'; expect "the memory limit inside is 64 MiB" "$out" 67108864
"$wharf" logs -f web >"$dir/followed" 2>/dev/null & follower=$!
w exec web sh -c 'echo followed > /proc/1/fd/1'
soon "logs -f follows" grep -qx followed "$dir/followed"
kill $follower; wait $follower 2>/dev/null || true
capture out w stats --no-stream --format '{{.Name}} {{.MemUsage}}' web; matches "stats measures it" "$out" "/ 64MiB"
printf '    %s\n' "$out"
step_begin=$(now_ms); w stop -t 1 web >/dev/null; done_in "stop"
step_begin=$(now_ms); w start web >/dev/null; soon "started again, the port answers" curl -fs "http://127.0.0.1:$published/"
step_begin=$(now_ms); w rm -f web >/dev/null; done_in "rm"
capture out w run --rm -v pages:/www "$image" cat /www/index.html; expect "the volume's data is still there" "$out" "served by Wharf"

chapter "4. A container that takes more memory than it may"
step_begin=$(now_ms); set +e; w run --name hog --memory 16m --memory-swap 16m "$image" sh -c 'x=a; while :; do x=$x$x; done' 2>/dev/null; code=$?; set -e
expect "exit code" "$code" 137
expect "and it says why" "$(w inspect -f '{{.State.OOMKilled}}' hog)" true
w rm hog >/dev/null

chapter "5. The engine is killed with -9 while a container counts"
w run -d --name count "$image" sh -c 'i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); usleep 4000; done' >/dev/null
pid=$(w inspect -f '{{.State.Pid}}' count)
sleep 0.5; kill -KILL $engine; wait $engine 2>/dev/null || true
sleep 0.5; kill -0 "$pid" || fail "the container died with the engine"
step_begin=$(now_ms); start_engine; done_in "a new engine answers"
step_begin=$(now_ms); expect "the same process still runs" "$(w inspect -f '{{.State.Status}} {{.State.Pid}}' count)" "running $pid"
step_begin=$(now_ms); w wait count >/dev/null
expect "not one of 500 lines is missing" "$(w logs count | md5sum)" "$(seq 0 499 | md5sum)"
w rm count >/dev/null

chapter "6. Everything removed"
w network rm demo >/dev/null; w volume rm pages >/dev/null; w rmi -f "$image" >/dev/null; w system prune -af --volumes >/dev/null
kill -TERM $engine; wait $engine 2>/dev/null || true; engine=
w system reset --force --root "$dir/root" --run "$dir/run" --instance "$instance" >/dev/null
check_none() { [ -z "$2" ] || fail "$1 left: $2"; printf '  %sno %s left%s\n' "$dim" "$1" "$off"; }
check_none "mount" "$(grep -F " $dir/" /proc/self/mountinfo || true)"
check_none "cgroup" "$(find /sys/fs/cgroup -maxdepth 2 -type d -name "$instance" 2>/dev/null || true)"
check_none "network link" "$(ls /sys/class/net | grep "^$instance" || true)"
check_none "firewall rule" "$(command -v nft >/dev/null && nft list tables | grep -w "$instance" || true)"
check_none "process" "$(pgrep -af -- "$dir/run" || true)"
check_none "file" "$(find "$dir/root" "$dir/run" -mindepth 1 2>/dev/null | head -5 || true)"

printf '\n%sAll of it in %d.%d s.%s\n' "$bold" $((($(now_ms) - begin) / 1000)) $((($(now_ms) - begin) % 1000 / 100)) "$off"
