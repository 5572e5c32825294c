#!/bin/sh
# Starts a real systemd in namespaces of its own, on a copy of this machine that nothing written there leaves.
# `boot.sh outer <project> <node> <control group>` makes the namespaces and becomes `unshare`; its only child is the
# machine's first process, and dies with it. Root only. Inside, the project is /opt/nexus and Node /opt/node/node.
set -eu
stage=$1 project=$2 node=$3

die() { echo "boot.sh: $1" >&2; exit 70; }

if [ "$stage" = outer ]; then
  # A control group of its own, so that its root is all that the inner systemd sees; the caller removes it.
  group=$4
  mkdir "$group"
  echo $$ > "$group/cgroup.procs"
  # Whatever becomes of the caller, the machine ends with it.
  exec setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child=KILL --mount-proc \
    --uts --ipc --net --cgroup /bin/sh "$0" inner "$project" "$node"
fi

[ "$$" = 1 ] || die 'not the first process of a namespace'
tag=nexus-test-machine
# Before anything covers /tmp: the project may lie there.
mount -t tmpfs -o mode=0755 "$tag" /mnt
mkdir /mnt/layers /mnt/project /mnt/node
mount --bind "$project" /mnt/project
mount --bind "$(dirname "$node")" /mnt/node

# What the machine writes goes to memory.
for name in etc var usr; do
  mkdir -p "/mnt/layers/$name/upper" "/mnt/layers/$name/work"
  mount -t overlay overlay -o "lowerdir=/$name,upperdir=/mnt/layers/$name/upper,workdir=/mnt/layers/$name/work" "/$name"
done
# And what people keep is not there at all.
for name in home root srv opt; do mount -t tmpfs -o mode=0755 "$tag" "/$name"; done
mkdir /opt/nexus /opt/node
mount --move /mnt/project /opt/nexus
mount --move /mnt/node /opt/node
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=1777 "$tag" /tmp
mount -t tmpfs -o mode=1777 "$tag" /var/tmp
# Last: `mount` keeps notes in /run.
mount -t tmpfs -o mode=0755 "$tag" /run

# systemd's tmpfiles service empties /tmp and /run: never the real ones.
for path in /tmp /run /var/tmp; do
  [ "$(stat -f -c %T "$path")" = tmpfs ] || die "$path is not a fresh mount"
  [ -z "$(ls -A "$path")" ] || die "$path is not empty"
  grep -q "^$tag $path tmpfs " /proc/mounts || die "$path is not this machine's own mount"
done
[ "$(stat -f -c %T /etc)" = overlayfs ] || die '/etc is not an overlay'

# As systemd expects it of whoever starts it in a container; credentials get into place through it. What is real
# shares nothing with this.
mount --make-rshared /
hostname nexus-test
for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-clean.timer \
  systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
  systemd-sysctl.service systemd-modules-load.service systemd-random-seed.service systemd-remount-fs.service \
  systemd-update-utmp.service systemd-logind.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
  sys-kernel-tracing.mount sys-fs-fuse-connections.mount; do
  ln -sfn /dev/null "/etc/systemd/system/$unit"
done
# Nothing of what the real machine runs, and only what is asked for below.
rm -rf /etc/systemd/system/*.wants /etc/fstab
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' > /etc/systemd/journald.conf.d/test.conf
cat > /etc/systemd/system/test.target <<UNIT
[Unit]
Requires=basic.target
Wants=systemd-journald.service dbus.service
After=basic.target systemd-journald.service dbus.service
UNIT
: > /etc/machine-id
exec env -i container=nexus-test PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
  /lib/systemd/systemd --system --unit=test.target --log-target=journal --show-status=false
