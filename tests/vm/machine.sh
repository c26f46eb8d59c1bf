# machine.sh, to be sourced by run.sh: boots a disk in an emulated machine.
# Takes from it: here, work, deadline, kernel_dir.

release=$(basename "$kernel_dir"/lib/modules/*)
begin=$(date +%s)

# The kernel's modules for the disk, and boot.sh.
make_ramdisk() {
  local ramdisk=$work/ramdisk modules=lib/modules/$release module file
  mkdir -p "$ramdisk/bin" "$ramdisk/$modules"
  install "$(command -v busybox)" "$ramdisk/bin/busybox"; ln -s busybox "$ramdisk/bin/sh"
  install "$here/boot.sh" "$ramdisk/init"
  cp "$kernel_dir/$modules"/modules.* "$ramdisk/$modules/"
  for module in virtio_pci virtio_blk ext4; do
    modprobe -d "$kernel_dir" -S "$release" --show-depends $module | awk '$1 == "insmod" {print $2}'
  done | sort -u | while read -r file; do install -D "$file" "$ramdisk/${file#"$kernel_dir"/}"; done
  (cd "$ramdisk" && find . | cpio --quiet -o -H newc) >"$work/initrd"
}

# Ends the machine PID when it has said nothing for so long that the deadline of a test program has passed, or when no time is left, and says so.
watch_machine() {
  local silence=${VM_SILENCE:-$((deadline / 3 + 30))} now size=0 last; last=$(date +%s)
  while kill -0 "$1" 2>/dev/null; do
    sleep 1
    now=$(date +%s)
    if [ "$(stat -c %s "$2")" != "$size" ]; then size=$(stat -c %s "$2"); last=$now; fi
    if [ $((now - begin)) -ge "$deadline" ]; then
      echo "test-vm: no time is left after $deadline s" >>"$2"; kill -KILL "$1"; return
    elif [ $((now - last)) -ge "$silence" ]; then
      echo "test-vm: the machine was silent for $silence s" >>"$2"; kill -KILL "$1"; return
    fi
  done
}

# boot_once DISK CONSOLE WORDS: WORDS are for the kernel. The machine has two nodes of memory. A processor of the machine that hangs in
# its kernel (it has been seen in one boot of ten under emulation) is the machine's end.
boot_once() {
  : >"$2"
  qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2G -nic none \
    -object memory-backend-ram,id=near,size=1G -object memory-backend-ram,id=far,size=1G \
    -numa node,memdev=near,cpus=0 -numa node,memdev=far,cpus=1 \
    -kernel "$kernel_dir/boot/vmlinuz-$release" -initrd "$work/initrd" \
    -append "console=ttyS0 quiet panic=-1 softlockup_panic=1 mitigations=off $3" \
    -drive "file=$1,if=virtio,format=raw,cache=unsafe" \
    -display none -monitor none -serial "file:$2" -no-reboot </dev/null &
  local machine=$!
  tail -f --pid=$machine -n +1 -s 0.5 "$2" 2>/dev/null | sed -u 's,\r,,g' & local shown=$!
  watch_machine $machine "$2"
  wait $machine 2>/dev/null || true
  wait $shown || true
}

# boot NAME DISK WORDS: boots it, and a second time, from the disk as it was, when the machine itself broke
# down: a hang of the emulated processor is none of what is tested. Its words are added to $work/console.
boot() {
  local attempt console
  for attempt in 1 2; do
    console=$work/console.$1.$attempt
    cp --sparse=always "$2" "$2.run"
    echo "test-vm: $1: Linux $release, $3"
    boot_once "$2.run" "$console" "$3"
    rm "$2.run"
    if grep -q '^machine: done' "$console" || [ $attempt = 2 ] ||
      ! grep -qE 'soft lockup|hard LOCKUP|^test-vm: the machine was silent' "$console"; then break; fi
    echo "test-vm: $1: the emulated machine hung (see above); once more from the beginning"
  done
  sed 's,\r,,g' "$console" >>"$work/console"
  grep -q '^machine: done' "$console" || { echo "test-vm: the $1 machine did not reach its end"; failed=$((failed + 1)); }
}
