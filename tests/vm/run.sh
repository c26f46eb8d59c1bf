#!/usr/bin/env bash
# run.sh TARGET ENGINE KERNEL: runs the tests of the runtime, the cgroups, the kernel wrappers and the
# shim, and the engine (the program ENGINE with wharf-shim beside it; see engine.sh and limits.sh), in a machine of
# their own, which has cgroup v2 only and a Debian kernel (see kernel.sh); what is about limits also in one that has
# cgroup v1 only.
# Emulated in software, so that it runs anywhere; ends in under 15 minutes, or fails.
# ONLY=WORD limits it to the test programs whose names begin so, and to the engine for `engine`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); target=$(cd "$1" && pwd); engine=$2 kernel=$3
deadline=${VM_DEADLINE:-840} only=${ONLY:-} failed=0
shim=$(dirname "$engine")/wharf-shim
crates=(wharf-sys wharf-cgroup wharf-runtime wharf-shim)
# Test programs that are about the project's files, not about a machine.
elsewhere=' documented '
[ "$(uname -m)" = x86_64 ] || { echo "test-vm: only on x86_64"; exit 2; }
work=$(mktemp -d /tmp/wharf-vm-XXXXXX); trap 'rm -rf "$work"' EXIT
kernel_dir=$("$here/kernel.sh" "$kernel" "$target/vm")
. "$here/machine.sh"

copy_libraries() { # PROGRAM: what the dynamic linker would load, at the same places
  ldd "$1" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do
    [ -e "$root$library" ] || install -D "$(readlink -f "$library")" "$root$library"
  done
}

copy_tests() {
  local packages=() program name place
  for crate in "${crates[@]}"; do packages+=(-p "$crate"); done
  cargo test --locked --quiet "${packages[@]}" --all-features --no-run --message-format=json |
    jq -r 'select(.executable != null) | [.target.kind[0], .executable] | @tsv' |
    while IFS=$'\t' read -r kind program; do
      name=$(basename "$program")
      case $kind in
        example)
          strip -g -o "$root/t/dynamic/examples/$name" "$program"
          # What is shipped stands in for it: the same main function, static and much smaller.
          case $name in
            wharf-runtime) install "$shim" "$root/t/debug/examples/$name" ;;
            *) ln "$root/t/dynamic/examples/$name" "$root/t/debug/examples/$name" ;;
          esac ;;
        lib | test)
          case $elsewhere in *" ${name%-*} "*) continue ;; esac
          # It attacks the runtime by its libraries.
          case $name in lifecycle-*) place=dynamic ;; *) place=debug ;; esac
          case $name in "$only"*) strip -g -o "$root/t/$place/deps/$name" "$program" ;; *) continue ;; esac ;;
        *) continue ;;
      esac
      copy_libraries "$program"
    done
}

root=$work/root
make_tests_disk() {
  local program path
  mkdir -p "$root"/{bin,etc,proc,sys,dev,run,tmp,lib/modules,t/debug/deps,t/debug/examples,t/dynamic/deps,t/dynamic/examples}
  install "$(command -v busybox)" "$root/bin/busybox"
  # Not busybox's: it takes its own programs for those of the same name in PATH.
  install "$(command -v dash)" "$root/bin/sh"; copy_libraries "$(command -v dash)"
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
  touch "$root/etc/subuid" "$root/etc/subgid"
  ln -s bin "$root/sbin" # the kernel loads modules by /sbin/modprobe
  # Some tests put a program with its libraries into a container.
  printf '#!/bin/sh\nexec /lib64/ld-linux-x86-64.so.2 --list "$@"\n' >"$root/bin/ldd"; chmod 755 "$root/bin/ldd"
  install "$here/guest.sh" "$here/session.sh" "$here/engine.sh" "$here/limits.sh" "$root/"
  install "$here/results.awk" "$root/t/results.awk"
  install "$shim" "$root/t/wharf-shim"; ln -s wharf-shim "$root/t/wharf-runtime"
  echo $((deadline / 3)) >"$root/t/deadline"
  copy_tests
  case engine in
    "$only"*)
      strip -g -o "$root/t/wharf" "$engine"; copy_libraries "$engine"
      install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt" ;;
  esac
  # Containers are checkpointed there in earnest: not every host's kernel lets CRIU do it. It saves tmpfs by GNU tar.
  # Users without privileges become that by setpriv, and get more ids by the setuid programs.
  for program in criu tar setpriv unshare newuidmap newgidmap; do
    path=$(PATH=$PATH:/usr/sbin command -v $program)
    cp -p "$path" "$root/bin/$program"; copy_libraries "$path"
  done
  cp -r "$kernel_dir"/lib/modules/* "$root/lib/modules/"
  mke2fs -q -t ext4 -d "$root" "$work/disk" 3G >/dev/null
}

# A Debian that boots by itself, with another one in /srv/roots to boot in containers.
make_systemd_disk() {
  local root=$work/debian from=$target/conformance/debian unit
  "$here/../conformance/debian-root.sh" "$from" >&2
  cp -a "$from/rootfs" "$root"
  "$here/../conformance/srv.sh" "$shim" "$root/srv"
  install "$here/../conformance/box.sh" "$here/../conformance/system-container.sh" "$here/systemd.sh" "$root/srv/"
  mkdir "$root/srv/roots"; cp -a "$from/rootfs" "$from/shifted" "$root/srv/roots/"
  echo machine >"$root/etc/hostname"
  echo 'alice:x:1000:1000::/home/alice:/bin/sh' >>"$root/etc/passwd"
  echo 'alice:x:1000:' >>"$root/etc/group"
  echo 'alice:*:19000::::::' >>"$root/etc/shadow"
  echo 'alice:200000:65536' | tee "$root/etc/subuid" >"$root/etc/subgid"
  install -d -o 1000 -g 1000 "$root/home/alice"
  # Not every systemd hands processors down to users, as a runtime for them wants it.
  mkdir -p "$root/etc/systemd/system/user@.service.d"
  printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >"$root/etc/systemd/system/user@.service.d/delegate.conf"
  unit=$root/etc/systemd/system/machine.service
  printf '%s\n' '[Unit]' 'After=multi-user.target' '[Service]' 'ExecStart=/srv/systemd.sh' 'Delegate=yes' \
    'StandardOutput=tty' 'StandardError=tty' 'TTYPath=/dev/ttyS0' >"$unit"
  # As in guest.sh: what would be switched on and off stays on.
  printf '%s\n' '[Service]' 'ExecStart=/bin/sleep infinity' 'CPUQuota=50%' 'AllowedCPUs=0' 'DevicePolicy=closed' \
    >"$root/etc/systemd/system/keep.service"
  sed -i 's/^After=.*/After=multi-user.target keep.service\nWants=keep.service/' "$unit"
  mkdir -p "$root/etc/systemd/system/default.target.wants"
  ln -s ../machine.service "$root/etc/systemd/system/default.target.wants/"
  mke2fs -q -t ext4 -d "$root" "$work/debian-disk" 3G >/dev/null
  rm -rf "$root"
}

make_ramdisk
case systemd in
  "$only") ;;
  *) make_tests_disk; boot tests "$work/disk" "machine_init=/guest.sh machine_cgroups=2 cgroup_no_v1=all" ;;
esac
# What guest.sh runs there.
for word in engine effects limits live; do
  case $word in
    "$only"*) boot version-1 "$work/disk" "machine_init=/guest.sh machine_cgroups=1 swapaccount=1"; break ;;
  esac
done
case systemd in
  "$only"*)
    make_systemd_disk
    boot systemd "$work/debian-disk" \
      "machine_init=/sbin/init cgroup_no_v1=all systemd.mask=serial-getty@ttyS0.service systemd.show_status=no" ;;
esac

sum() { sed -n "s/^test result:.* \([0-9]*\) $1.*/\1/p" "$work/console" | awk '{s += $1} END {print s + 0}'; }
passed=$(sum passed) failed=$((failed + $(sum failed)))
# A program without its closing line was ended by its deadline, or broke.
broken=$(awk '/^== ended with/ {if ($4 != 0 && !result) print name; next} /^== / {name = $2; result = 0} /^test result:/ {result = 1}' "$work/console")
for name in $broken; do echo "test-vm: $name gave no result"; failed=$((failed + 1)); done
if grep '^machine: cgroups left:' "$work/console" | grep -qv ' none$'; then
  echo "test-vm: the tests left cgroups"; failed=$((failed + 1))
fi
[ "$passed" -gt 0 ] || failed=$((failed + 1))
skipped() {
  grep '^NOT CHECKED ' "$work/console" | cut -d' ' -f3- || true
  sed -n 's/^test \(.*\) \.\.\. ignored,* *\(.*\)/\1: ignored, \2/p' "$work/console"
  echo "rounds: $(sed -n 's/^export \(WHARF_CREATES.*\)/\1/p' "$here/guest.sh") instead of 200 and 48"
  [ -z "$only" ] || return 0
  echo "documented: about the project's files, not about a machine"
}
printf '\nnot checked in this machine:\n'; skipped | sed 's/^/  /'
[ "$failed" -eq 0 ] || { printf '\nfailed:\n'; grep -E '^test .* FAILED' "$work/console" | sort -u || true; }
printf '\ntest-vm: Linux %s, %s seconds\n%d passed, %d failed\n' "$release" $(($(date +%s) - begin)) "$passed" "$failed"
[ "$failed" -eq 0 ]
