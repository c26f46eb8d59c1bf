#!/bin/sh
# boot.sh: the first program of the machine, in its initial ramdisk: finds the disk and goes on there.
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in virtio_pci virtio_blk ext4; do modprobe $module; done
mount -t ext4 /dev/vda /root || { echo "machine: no disk"; poweroff -f; }
mount -t devtmpfs devtmpfs /root/dev
# The kernel's command line says what is process 1 there.
init=$(sed -n 's/.*machine_init=\([^ ]*\).*/\1/p' /proc/cmdline)
umount /proc /sys
exec switch_root /root "$init"
