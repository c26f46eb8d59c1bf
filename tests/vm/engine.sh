#!/bin/sh
# engine.sh: the engine with its command line on cgroup version 2, in the machine: limits that hold,
# what is read back of them, and nothing left behind. Prints what a test program prints.
set -u
passed=0 failed=0
w() { /t/wharf "$@" 2>&1; }
inside() { w exec box1 cat "/sys/fs/cgroup/$1"; }

check() { # NAME EXPECTED FOUND: the pattern is the shell's
  case $3 in
    $2) echo "test engine::$1 ... ok"; passed=$((passed + 1)) ;;
    *) echo "test engine::$1 ... FAILED"; echo "  expected: $2"; echo "  found: $3"; failed=$((failed + 1)) ;;
  esac
}

/t/wharf daemon >/tmp/engine.log 2>&1 & engine=$!
until [ -S /run/wharf/wharf.sock ] || ! kill -0 $engine 2>/dev/null; do sleep 0.1; done
if ! kill -0 $engine; then cat /tmp/engine.log; echo 'test result: FAILED. 0 passed; 1 failed'; exit 1; fi
mkdir -p /tmp/box/bin /tmp/box/tmp
cp /bin/busybox /tmp/box/bin/
for applet in sh cat sleep dd mknod head; do ln -s busybox /tmp/box/bin/$applet; done
tar -C /tmp/box -c . | w import - box >/dev/null

check the_host_has_cgroup_version_2 '2 cgroupfs' "$(w info -f '{{.CgroupVersion}} {{.CgroupDriver}}')"
check hello_runs_with_limits '*at most 64 MiB*at most 50*' "$(w run --rm -m 64m --pids-limit 50 hello)"
check a_container_is_started '????????????????????????????????????????????????????????????????' \
  "$(w run -d --name box1 -m 64m --pids-limit 50 --cpus 0.5 --cpuset-cpus 1 box sleep 1000)"
check memory_is_limited 67108864 "$(inside memory.max)"
check swap_is_as_much_again 67108864 "$(inside memory.swap.max)"
check processes_are_limited 50 "$(inside pids.max)"
check cpus_are_limited '50000 100000' "$(inside cpu.max)"
check the_processors_are_chosen 1 "$(inside cpuset.cpus)"
check the_cgroup_namespace_is_private '0::/' "$(w exec box1 cat /proc/self/cgroup)"
check an_exec_has_its_exit_code 'out 7' "$(w exec box1 sh -c 'echo out; exit 7' | tr '\n' ' '; /t/wharf exec box1 sh -c 'exit 7'; echo $?)"
check stats_show_use_and_limit '*/ 64MiB [1-9]*' "$(w stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' box1)"
check a_device_that_is_not_allowed_is_refused '*not permitted*' \
  "$(w exec box1 sh -c "mknod /tmp/disk b $(tr : ' ' </sys/block/vda/dev) && head -c 1 /tmp/disk")"
group=$(find /sys/fs/cgroup -name cgroup.freeze -path "*$(w inspect -f '{{.Id}}' box1)*" | head -n 1)
check pause_freezes 'box1 paused 1' "$(w pause box1) $(w inspect -f '{{.State.Status}}' box1) $(cat "$group")"
check an_exec_into_a_paused_container_is_refused '*paused*' "$(w exec box1 cat /dev/null)"
check unpause_thaws 'box1 running 0' "$(w unpause box1) $(w inspect -f '{{.State.Status}}' box1) $(cat "$group")"
check update_changes_limits '134217728 20' \
  "$(w update -m 128m --memory-swap 128m --pids-limit 20 box1 >/dev/null; inside memory.max) $(inside pids.max)"
check a_fork_beyond_the_limit_fails "*can't fork*" \
  "$(w run --rm --pids-limit 4 box sh -c 'for n in 1 2 3 4 5 6; do sleep 100 & done')"
check memory_beyond_the_limit_ends_with_137 137 \
  "$(/t/wharf run --name box2 -m 24m --memory-swap 24m box dd if=/dev/zero of=/dev/null bs=64M count=1 >/dev/null 2>&1; echo $?)"
check and_is_said_to_be_out_of_memory 'true 137' "$(w inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' box2)"
# Swap of the machine's own, to see how much of it is had.
dd if=/dev/zero of=/swap bs=1M count=300 2>/dev/null; chmod 600 /swap; mkswap /swap >/dev/null; swapon /swap
check swap_is_had_beside_memory 0 \
  "$(/t/wharf run --rm -m 24m --memory-swap 124m box dd if=/dev/zero of=/dev/null bs=64M count=1 >/dev/null 2>&1; echo $?)"
check swap_is_not_had_beyond_its_limit 137 \
  "$(/t/wharf run --rm -m 24m --memory-swap 48m box dd if=/dev/zero of=/dev/null bs=64M count=1 >/dev/null 2>&1; echo $?)"
# All containers together get less than two of them want: what is reserved for one stays in memory.
fill() { # NAME MIB OPTION...: a container that holds so much
  name=$1 mib=$2; shift 2
  w run -d --name "$name" --shm-size 200m "$@" box sh -c "dd if=/dev/zero of=/dev/shm/x bs=1M count=$mib; : >/tmp/full; sleep 1000" >/dev/null
  until w exec "$name" cat /tmp/full >/dev/null; do sleep 0.2; done
}
swapped() { expr $(cat "$(find /sys/fs/cgroup -name memory.swap.current -path "*$(w inspect -f '{{.Id}}' "$1")*" | head -n 1)") / 1048576; }
whole=$(dirname "$(dirname "$group")") all=$(cat "$(dirname "$(dirname "$group")")/memory.max")
fill held 80 --memory-reservation 90m
echo 220M >"$whole/memory.max"
fill pushes 170
check what_is_reserved_stays_in_memory '[0-9] yes' "$(swapped held) $([ "$(swapped pushes)" -ge 15 ] && echo yes)"
echo "$all" >"$whole/memory.max"
w rm -f held pushes >/dev/null
swapoff /swap; rm /swap
check kill_ends_a_paused_container '137' "$(w pause box1 >/dev/null; w kill box1 >/dev/null; w wait box1)"
check containers_are_removed '' "$(w rm box1 box2 >/dev/null; w ps -aq)"
kill -TERM $engine
wait $engine
check the_engine_ends_when_asked 0 $?
check reset_takes_what_is_left 0 "$(/t/wharf system reset --force >/dev/null 2>&1; echo $?)"
check nothing_is_left '' "$(find /sys/fs/cgroup -mindepth 1 -type d; grep wharf /proc/mounts; ps | grep '[w]harf-shim')"
[ $failed -eq 0 ] || { echo 'the log of the engine:'; tail -n 20 /tmp/engine.log; }
[ $failed -eq 0 ] && result=ok || result=FAILED
echo "test result: $result. $passed passed; $failed failed"
[ $failed -eq 0 ]
