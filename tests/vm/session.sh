# session.sh, to be sourced by a script of the machine: a running engine, an image `box` of busybox, and how
# to check. Takes from it: suite, the name of what is checked. Prints what a test program prints.
set -u
passed=0 failed=0
w() { /t/wharf "$@" 2>&1; }
code() { /t/wharf "$@" >/dev/null 2>&1; echo $?; }

check() { # NAME EXPECTED FOUND: the pattern is the shell's
  case $3 in
    $2) echo "test $suite::$1 ... ok"; passed=$((passed + 1)) ;;
    *) echo "test $suite::$1 ... FAILED"; echo "  expected: $2"; echo "  found: $3"; failed=$((failed + 1)) ;;
  esac
}

# One file of the group of CONTAINER, on either version: group_file CONTAINER FILE
group_file() { find /sys/fs/cgroup -name "$2" -path "*$(w inspect -f '{{.Id}}' "$1")*" | head -n 1; }

begin_session() {
  /t/wharf daemon >/tmp/engine.log 2>&1 & engine=$!
  until [ -S /run/wharf/wharf.sock ] || ! kill -0 $engine 2>/dev/null; do sleep 0.1; done
  if ! kill -0 $engine; then cat /tmp/engine.log; echo 'test result: FAILED. 0 passed; 1 failed'; exit 1; fi
  if [ ! -e /tmp/box ]; then
    mkdir -p /tmp/box/bin /tmp/box/tmp
    cp /bin/busybox /tmp/box/bin/
    for applet in sh cat sleep dd mknod head grep cut taskset timeout true; do ln -s busybox /tmp/box/bin/$applet; done
  fi
  tar -C /tmp/box -c . | w import - box >/dev/null
}

end_session() {
  kill -TERM $engine
  wait $engine
  check the_engine_ends_when_asked 0 $?
  check reset_takes_what_is_left 0 "$(code system reset --force)"
  check nothing_is_left '' "$(find /sys/fs/cgroup -type d -path '*wharf*'; grep wharf /proc/mounts; ps | grep '[w]harf-shim')"
  [ $failed -eq 0 ] || { echo 'the log of the engine:'; tail -n 20 /tmp/engine.log; }
  [ $failed -eq 0 ] && result=ok || result=FAILED
  echo "test result: $result. $passed passed; $failed failed"
  [ $failed -eq 0 ]
}
