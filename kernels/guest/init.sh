#!/bin/sh
# The first process of the virtual machine: mounts what a Linux has, and runs what the second disk brings.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mount -t proc proc /proc 2>/dev/null
mount -t sysfs sysfs /sys 2>/dev/null
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm /run/lock /run/clew-kernels
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount --make-rshared /
hostname clew-kernels
ip link set lo up
dmesg -n 1
tar -x -f /dev/vdb -C /run/clew-kernels
sh /run/clew-kernels/run.sh
# Power off: nothing here has to be kept (Documentation/admin-guide/sysrq.rst).
echo o >/proc/sysrq-trigger
while :; do sleep 60; done
