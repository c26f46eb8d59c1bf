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
umount /proc /sys
mount -t devtmpfs devtmpfs /root/dev
exec switch_root /root /bin/busybox sh /guest.sh
