#!/bin/sh
# engine.sh: the engine with its command line on cgroup version 2, in the machine: limits that hold,
# what is read back of them, and nothing left behind. What limits do is in limits.sh.
suite=engine
. /session.sh
inside() { w exec box1 cat "/sys/fs/cgroup/$1"; }
begin_session

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
group=$(group_file box1 cgroup.freeze)
check pause_freezes 'box1 paused 1' "$(w pause box1) $(w inspect -f '{{.State.Status}}' box1) $(cat "$group")"
check an_exec_into_a_paused_container_is_refused '*paused*' "$(w exec box1 cat /dev/null)"
check unpause_thaws 'box1 running 0' "$(w unpause box1) $(w inspect -f '{{.State.Status}}' box1) $(cat "$group")"
check update_changes_limits '134217728 20' \
  "$(w update -m 128m --memory-swap 128m --pids-limit 20 box1 >/dev/null; inside memory.max) $(inside pids.max)"
check a_fork_beyond_the_limit_fails "*can't fork*" \
  "$(w run --rm --pids-limit 4 box sh -c 'for n in 1 2 3 4 5 6; do sleep 100 & done')"
check memory_beyond_the_limit_ends_with_137 137 \
  "$(code run --name box2 -m 24m --memory-swap 24m box dd if=/dev/zero of=/dev/null bs=64M count=1)"
check and_is_said_to_be_out_of_memory 'true 137' "$(w inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' box2)"
check kill_ends_a_paused_container '137' "$(w pause box1 >/dev/null; w kill box1 >/dev/null; w wait box1)"
check containers_are_removed '' "$(w rm box1 box2 >/dev/null; w ps -aq)"
end_session
