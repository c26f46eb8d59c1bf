#!/bin/sh
# limits.sh: the resource flags of `run`, each by what a program in a container can do, in the machine, on the
# version of cgroups that it has. What is the same without cgroups (ulimits, /dev/shm) is in tests/e2e/limits.rs.
suite=limits
. /session.sh
begin_session
version=$(w info -f '{{.CgroupVersion}}')
suite=limits_on_v$version
once() { w run --rm --network none "$@"; }
ended() { code run --rm --network none "$@"; }
below() { [ "$1" -lt "$2" ] 2>/dev/null && echo below || echo "$1"; }
now() { cut -d. -f1 /proc/uptime; }

# Memory and swap.
touch_memory='dd if=/dev/zero of=/dev/null bs=64M count=1'
check a_program_that_fits_runs 0 "$(ended -m 96m --memory-swap 96m box $touch_memory)"
check memory_beyond_the_limit_is_not_had 137 "$(ended -m 24m --memory-swap 24m box $touch_memory)"
# Swap of the machine's own, to see how much of it is had.
fallocate -l 400M /swap; chmod 600 /swap; mkswap /swap >/dev/null; swapon /swap
check swap_is_had_beside_memory 0 "$(ended -m 24m --memory-swap 124m box $touch_memory)"
check swap_is_not_had_beyond_its_limit 137 "$(ended -m 24m --memory-swap 48m box $touch_memory)"

swapped_kib() { # CONTAINER: how much of it is in swap
  case $version in
    1) bytes=$(sed -n 's/^swap //p' "$(group_file "$1" memory.stat)") ;;
    2) bytes=$(cat "$(group_file "$1" memory.swap.current)") ;;
  esac
  expr "$bytes" / 1024
}
swapped() { expr "$(swapped_kib "$1")" / 1024; }
until_full() { # CONTAINER: or until it has ended
  until w exec "$1" cat /tmp/full >/dev/null || [ "$(w inspect -f '{{.State.Running}}' "$1")" != true ]; do sleep 0.2; done
}
fill() { # NAME MIB OPTION...: a container that holds so much
  name=$1 mib=$2; shift 2
  w run -d --name "$name" --network none --shm-size 400m "$@" \
    box sh -c "dd if=/dev/zero of=/dev/shm/x bs=1M count=$mib; : >/tmp/full; sleep 1000" >/dev/null
  until_full "$name"
}
# All together get less than they want: what is within its reservation stays in memory, what is above it goes.
fill within 80 --memory-reservation 90m
fill above 80 --memory-reservation 16m
case $version in
  1) # It counts when the whole machine is short of memory. Huge pages take all but 150 MB, and are never swapped.
    sync; echo 3 >/proc/sys/vm/drop_caches
    huge=$(cat /proc/sys/vm/nr_hugepages)
    echo $((huge + ($(sed -n 's/^MemFree: *\([0-9]*\) kB/\1/p' /proc/meminfo) - 150 * 1024) / 2048)) >/proc/sys/vm/nr_hugepages
    fill pushes 150
    echo "$huge" >/proc/sys/vm/nr_hugepages ;;
  2) # It counts when the group of all containers is.
    whole=$(dirname "$(dirname "$(group_file within memory.max)")") all=$(cat "$(dirname "$(dirname "$(group_file within memory.max)")")/memory.max")
    echo 220M >"$whole/memory.max"
    fill pushes 90
    echo "$all" >"$whole/memory.max" ;;
esac
kept=$(swapped within) gone=$(swapped above)
echo "swapped: $kept of the one within its reservation, $gone of the other"
most=$((gone / 2)) # and on version 2, which looks at nothing else before, next to none
[ "$version" = 1 ] || [ "$most" -le 9 ] || most=9
check what_is_reserved_stays_in_memory yes "$([ "$gone" -ge 8 ] && [ "$kept" -le "$most" ] && echo yes || echo "$kept, $gone")"
w rm -f within above pushes >/dev/null

# Files that are read compete with memory that could be swapped.
fallocate -l 60M /big
swaps_at() { # SWAPPINESS
  sync; echo 3 >/proc/sys/vm/drop_caches # the one that reads a page is the one that pays for it
  w run -d --name swaps --network none -m 48m --memory-swap 148m --memory-swappiness "$1" -v /big:/big:ro \
    box sh -c 'dd if=/dev/zero of=/dev/shm/x bs=1M count=36; for n in 1 2 3; do cat /big >/dev/null; done; : >/tmp/full; sleep 1000'
  until_full swaps
}
case $version in
  1)
    swaps_at 0 >/dev/null; check without_swappiness_nothing_is_swapped 0 "$(swapped_kib swaps)"; w rm -f swaps >/dev/null
    swaps_at 100 >/dev/null; check with_swappiness_it_is '[1-9][0-9]*' "$(swapped_kib swaps)"; w rm -f swaps >/dev/null ;;
  2) check swappiness_is_discarded_with_a_word '*swappiness*' "$(once --memory-swappiness 0 box true)" ;;
esac
swapoff /swap; rm /swap /big

# The killer of programs that want too much: only version 1 can do without.
grow='x=a; i=0; while [ $i -lt 24 ]; do x=$x$x; i=$((i+1)); done; echo ${#x}'
case $version in
  1)
    w run -d --name waits --network none --oom-kill-disable -m 16m --memory-swap 16m box sh -c "$grow" >/dev/null
    until grep -q 'under_oom 1' "$(group_file waits memory.oom_control)" || [ "$(w inspect -f '{{.State.Running}}' waits)" != true ]; do
      sleep 0.2
    done
    check without_the_killer_it_waits true "$(w inspect -f '{{.State.Running}}' waits)"
    w update -m 256m --memory-swap 256m waits >/dev/null
    check and_goes_on_with_more '0 16777216' "$(w wait waits) $(w logs waits)"
    w rm waits >/dev/null ;;
  2) check the_killer_stays_and_a_word_says_so '*OomKillDisable*' "$(once --oom-kill-disable -m 16m box true)" ;;
esac

# Processors.
ticks='read b _ </proc/uptime; b=${b%.*}
  while read u _ </proc/uptime && [ ${u%.*} -lt $((b + 3)) ]; do :; done
  set -- $(cat /proc/$$/stat); echo $((${14} + ${15}))' # hundredths of a second, of three
check a_program_without_limits_gets_its_time '[1-3][0-9][0-9]' "$(once box sh -c "$ticks")"
check a_quota_is_not_exceeded below "$(below "$(once --cpu-period 50000 --cpu-quota 10000 box sh -c "$ticks")" 100)"
check a_share_of_a_processor_is_not_exceeded below "$(below "$(once --cpus 0.2 box sh -c "$ticks")" 100)"
count='while read u _ </proc/uptime && [ ${u%.*} -lt $0 ]; do sleep 0.1; done; n=0
  while read u _ </proc/uptime && [ ${u%.*} -lt $1 ]; do n=$((n + 1)); done; echo $n'
begin=$(($(now) + 4)) end=$(($(now) + 10))
for shares in 256 2048; do
  w run -d --name "s$shares" --network none --cpuset-cpus 1 --cpu-shares $shares box sh -c "$count" $begin $end >/dev/null
done
w wait s256 s2048 >/dev/null
few=$(w logs s256) many=$(w logs s2048)
check shares_of_a_processor_are_in_proportion yes "$([ "$many" -ge $((few * 3)) ] && echo yes || echo "$few to $many")"
w rm s256 s2048 >/dev/null
check it_runs_on_its_processor_only '1 1 1 1 1 ' \
  "$(once --cpuset-cpus 1 box sh -c 'for n in 1 2 3 4 5; do sleep 0.1; cut -d" " -f39 /proc/$$/stat; done' | tr '\n' ' ')"
check and_gets_no_other '*nvalid*' "$(once --cpuset-cpus 1 box taskset 1 true)"
nodes() { once --cpuset-mems "$1" box sh -c 'grep -E "heap|stack" /proc/self/numa_maps | grep -o "N[01]="' | sort -u | tr -d '\n'; }
check its_memory_is_on_its_node 'N0= N1=' "$(nodes 0) $(nodes 1)"
# Debian's kernels are built without groups of real-time processes, and version 2 has none at all.
check real_time_is_refused_by_name '*does not support CPU real-time scheduler*' "$(once --cpu-rt-runtime 10000 --cpu-rt-period 1000000 box true)"

# Processes.
check a_fork_beyond_the_limit_fails "*can't fork*" \
  "$(once --pids-limit 4 box sh -c 'for n in 1 2 3 4 5 6; do sleep 100 & done')"

# Disks: one whose requests take three milliseconds each, under the scheduler that knows of weights.
modprobe null_blk; modprobe bfq
mount -t configfs configfs /sys/kernel/config 2>/dev/null
disk=/sys/kernel/config/nullb/slow
mkdir $disk
echo 1000 >$disk/size; echo 2 >$disk/irqmode; echo 3000000 >$disk/completion_nsec; echo 1 >$disk/hw_queue_depth
echo 1 >$disk/power
slow=/dev/slow # KERNEL(6.1): its name; before, its number
[ -b $slow ] || slow=/dev/nullb$(cat $disk/index)
seconds() { # FLAG LIMIT DD..: what it takes
  flag=$1 limit=$2; shift 2
  once --device $slow --$flag $slow:$limit box sh -c "read b _ </proc/uptime; $* 2>/dev/null || exit; read u _ </proc/uptime; echo \$((\${u%.*} - \${b%.*}))"
}
read="dd if=$slow of=/dev/null iflag=direct" write="dd if=/dev/zero of=$slow oflag=direct"
check a_disk_without_limits_is_fast '[01]' "$(seconds device-read-bps 1gb $read bs=64k count=48)"
check bytes_are_read_no_faster_than_allowed '[23456789]' "$(seconds device-read-bps 1mb $read bs=64k count=48)"
check bytes_are_written_no_faster_than_allowed '[23456789]' "$(seconds device-write-bps 1mb $write bs=64k count=48)"
check reads_are_no_more_than_allowed '[23456789]' "$(seconds device-read-iops 10 $read bs=4k count=30)"
check writes_are_no_more_than_allowed '[23456789]' "$(seconds device-write-iops 10 $write bs=4k count=30)"
queue=/sys/block/${slow#/dev/}/queue
echo bfq >$queue/scheduler
# Nothing but the weights counts, and it waits for the next read of the same one, however slow the machine is.
echo 0 >$queue/iosched/low_latency; echo 1 >$queue/iosched/strict_guarantees; echo 100 >$queue/iosched/slice_idle
race() { # FLAG LIGHT HEAVY: blocks that two read that want all of the disk
  begin=$(($(now) + 7)) end=$(($(now) + 14)) # both have started by then
  for weight in $2 $3; do
    w run -d --name "d${weight##*:}" --network none --device $slow "$1" "$weight" box sh -c \
      'wait_until() { while read u _ </proc/uptime && [ ${u%.*} -lt $1 ]; do sleep 0.1; done; }
       wait_until $0; dd if=$2 of=/dev/null bs=4k iflag=direct & wait_until $1; kill -USR1 $!; sleep 1; kill $!' \
      $begin $end $slow
  done >/dev/null
  w wait d${2##*:} d${3##*:} >/dev/null
  light=$(w logs d${2##*:} | sed -n 's/+.* records in//p') heavy=$(w logs d${3##*:} | sed -n 's/+.* records in//p')
  w rm -f d${2##*:} d${3##*:} >/dev/null
  [ $((2 * heavy)) -ge $((3 * light)) ] && echo "yes, $light to $heavy" || echo "no, $light to $heavy"
}
check weights_share_a_disk 'yes*' "$(race --blkio-weight 100 1000)"
check weights_of_a_device_share_it 'yes*' "$(race --blkio-weight-device $slow:100 $slow:1000)"

# Devices.
use="head -c 1 $slow >/dev/null && echo -n read; { echo x >$slow; } 2>/dev/null && echo ' written'"
check a_device_is_used_as_allowed 'read|read written' "$(once --device $slow:$slow:r box sh -c "$use")|$(once --device $slow box sh -c "$use")"
make="mknod /tmp/disk b $(tr : ' ' </sys/block/${slow#/dev/}/dev) && head -c 1 /tmp/disk >/dev/null && echo read"
check a_device_is_made_as_allowed '*not permitted*|read' \
  "$(once box sh -c "$make")|$(once --device-cgroup-rule "b $(cat /sys/block/${slow#/dev/}/dev) rwm" box sh -c "$make")"
echo 0 >$disk/power; rmdir $disk
end_session
