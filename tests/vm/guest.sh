#!/bin/busybox sh
# guest.sh: process 1 of the machine: mounts cgroup v2 and no other cgroups, runs every test program
# of /t and the engine, and switches the machine off. The host counts (see run.sh).
# With machine_cgroups=1 on the kernel's command line: version 1 and no other, and of the tests those of limits.
export PATH=/bin HOME=/tmp WHARF_SHIM=/t/wharf-shim RUST_BACKTRACE=0
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
version=$(sed -n 's/.*machine_cgroups=\([12]\).*/\1/p' /proc/cmdline)
case $version in
  1) # As systemd lays them out.
    mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    for hierarchy in cpuset cpu,cpuacct blkio memory devices freezer net_cls,net_prio perf_event hugetlb pids; do
      mkdir "/sys/fs/cgroup/$hierarchy"
      mount -t cgroup -o "$hierarchy" cgroup "/sys/fs/cgroup/$hierarchy"
      for name in $(echo $hierarchy | tr , ' '); do
        [ -e "/sys/fs/cgroup/$name" ] || ln -s "$hierarchy" "/sys/fs/cgroup/$name"
      done
    done
    mkdir /sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
    scripts=/limits.sh ;;
  2)
    mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
    scripts='/engine.sh /limits.sh' ;;
esac
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs tmpfs /run
ln -sf /proc/self/fd /dev/fd
chmod 1777 /tmp
ip link set lo up
hostname machine; hostname >/etc/hostname
# Fewer rounds than on a host: every system call takes ten times as long.
export WHARF_CREATES=20 PROPTEST_CASES=12
for module in overlay fuse loop brd null_blk bfq veth bridge nf_tables nft_chain_nat nft_masq nft_ct \
  unix_diag inet_diag tcp_diag udp_diag af_packet_diag netlink_diag; do
  modprobe $module 2>/dev/null
done
echo 16 >/proc/sys/vm/nr_hugepages
echo "machine: $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null || ls /sys/fs/cgroup)"
set -o pipefail

run() { # PROGRAM [ARGUMENT..]: the exit code of the program itself is the one that is printed
  local name=${1##*/} begin=$(cut -d. -f1 /proc/uptime)
  echo "== $name"
  timeout -s KILL "$(cat /t/deadline)" "$@" </dev/null 2>&1 | awk -f /t/results.awk
  echo "== ended with $? after $(($(cut -d. -f1 /proc/uptime) - begin)) s"
}
# What is switched on for the first container and off after the last one, the kernel switches by rewriting its own
# code (processors that are chosen, bandwidth, device rules), and an emulated processor has been seen to hang for ever
# at such a place. This container keeps all of it on.
keep() { /t/wharf-runtime --root /tmp/keep/state "$@"; }
mkdir -p /tmp/keep/rootfs/bin; cp /bin/busybox /tmp/keep/rootfs/bin/sleep
cat >/tmp/keep/config.json <<JSON
{"ociVersion":"1.2.0","root":{"path":"rootfs"},"process":{"user":{"uid":0,"gid":0},"args":["sleep","100000"],"cwd":"/",
 "env":["PATH=/bin"]},"linux":{"cgroupsPath":"/keep","namespaces":[{"type":"pid"},{"type":"mount"}],
 "resources":{"cpu":{"quota":50000,"period":100000,"cpus":"0"},"pids":{"limit":9},"memory":{"limit":33554432}}}}
JSON
keep run -d -b /tmp/keep keep </dev/null >/dev/null
for program in /t/debug/deps/* /t/dynamic/deps/*; do
  [ -e "$program" ] || continue
  case $version:${program##*/} in 2:* | 1:effects-* | 1:limits-* | 1:live-*) run "$program" --test-threads=2 --show-output ;; esac
done
keep delete --force keep
[ ! -e /t/wharf ] || for script in $scripts; do run $script; done
left=$(find /sys/fs/cgroup -mindepth $((3 - version)) -type d)
echo "machine: cgroups left: ${left:-none}"
echo "machine: done"
sync
echo o >/proc/sysrq-trigger
sleep 60
