#!/bin/sh
# systemd.sh: in the machine whose first process is systemd, as a service of it: the runtime under systemd as it
# is on a pure version 2 host, by the scripts of tests/conformance. Prints what a test program prints.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PATIENCE_SECONDS=150

run() { # NAME PROGRAM [ARGUMENT..]: its lines "ok CASE" and "FAILED CASE" become those of a test program
  name=$1; shift
  echo "== $name"
  begin=$(cut -d. -f1 /proc/uptime)
  { "$@" </dev/null 2>&1; echo "exit code $?"; } | awk -v name="$name" '
    /^ok / { print "test " name "::" $2 " ... ok"; passed++; fflush(); next }
    /^FAILED / { print "test " name "::" $2 " ... FAILED"; failed++; fflush(); next }
    /^exit code / { if ($3 && !failed) { print "test " name " ... FAILED"; failed++ } next }
    { print; fflush() }
    END { print "test result: " (failed ? "FAILED" : "ok") ". " passed + 0 " passed; " failed + 0 " failed" }'
  echo "== ended with 0 after $(($(cut -d. -f1 /proc/uptime) - begin)) s"
}

echo "machine: $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')," \
  "controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
run systemd_cgroups sh /srv/inside.sh
# From a login: its processes are in a scope of the session, from where only the system's systemd may move them.
run systemd_of_a_user su -l alice -c "PATIENCE_SECONDS=$PATIENCE_SECONDS sh /srv/inside.sh"
run system_containers sh /srv/system-container.sh /srv/wharf-runtime /srv/roots
left=$(find /sys/fs/cgroup \( -name '*wharf*' -o -path '*machine.slice/*' \) -type d)
echo "machine: cgroups left: ${left:-none}"
echo "machine: done"
sync
echo o >/proc/sysrq-trigger
sleep 60
