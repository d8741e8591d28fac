#!/bin/bash
# A machine of its own for tests: a real systemd as PID 1 of namespaces on an overlay of this machine's root, without
# Docker or nspawn. Root on Linux; Debian: systemd dbus dbus-user-session libpam-systemd iproute2 util-linux.
#
#   machine.sh plug DIR NETWORK ADDRESS     before it is up: eth0 with this address, on the bridge br0 of a named namespace
#   machine.sh up DIR [SOURCE=TARGET ...] [-FOLDER ...]
#                                           boots it; binds folders of this machine into it, at every boot; leaves others
#                                           empty; DIR/first, if there, is laid on its disk before the first boot
#   machine.sh adduser DIR NAME [nolinger]  a user, whose manager runs without a login
#   machine.sh exec DIR CMD...              runs CMD inside as root
#   machine.sh as DIR USER CMD...           the same as a user, in what a shell of theirs would have of an environment
#   machine.sh reboot DIR [clean]           ends every process at once (a power cut), or shuts down; boots on the same disk
#   machine.sh off DIR                      a power cut, and it stays off; packets to it vanish
#   machine.sh on DIR                       boots again on the same disk
#   machine.sh down DIR                     ends it, unmounts and removes all of it
#
# A power cut here loses no write: what a real one adds is shown by the order of writes and fsyncs.
set -eu
verb=$1
D=$2
shift 2
NAME=$(basename "$D")
CGROUPS=/sys/fs/cgroup/unified
[ -d $CGROUPS ] || CGROUPS=/sys/fs/cgroup

die() { echo "machine: $*" >&2; exit 1; }
leader() { cat "$D/leader" 2>/dev/null || true; }
alive() { local pid; pid=$(leader); [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
inside() { nsenter --target "$(leader)" --mount --uts --ipc --net --pid --cgroup --root --wd "$@"; }

plug_in() { # a cable from the bridge to this namespace, whose pid 1 this script is; the same address, the same MAC
    local network address port
    read -r network address port <"$D/plug"
    # shellcheck disable=SC2046,SC2086
    nsenter --net="/run/netns/$network" ip link add "$port" type veth peer name eth0 \
        address $(printf '02:00:%02x:%02x:%02x:%02x' ${address//./ }) netns 1
    nsenter --net="/run/netns/$network" ip link set "$port" master br0 up
    ip address add "$address/24" dev eth0
    ip link set eth0 up
}

unplug() { # before its processes end, so that no peer is told of it
    local network address port
    [ -f "$D/plug" ] || return 0
    read -r network address port <"$D/plug"
    ip -n "$network" link del "$port" 2>/dev/null || true
}

boot() {
    mkdir -p "$CGROUPS/$NAME"
    # The leader moves itself into the child cgroup first, so that the new cgroup namespace is rooted there.
    # shellcheck disable=SC2016
    setsid bash -c '
        echo $$ > "$1/cgroup.procs"
        exec unshare --fork --kill-child=SIGKILL --pid --mount --propagation private --uts --ipc --cgroup --net \
            bash "$2" __init "$3"
    ' _ "$CGROUPS/$NAME" "$(readlink -f "$0")" "$D" </dev/null >"$D/console.log" 2>&1 &
    local outer=$! pid='' i
    echo "$outer" >"$D/outer"
    for i in $(seq 400); do
        pid=$(cat "/proc/$outer/task/$outer/children" 2>/dev/null | tr -d ' ' || true)
        [ -n "$pid" ] && [ "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c1-20)" = "/lib/systemd/systemd" ] && break
        kill -0 "$outer" 2>/dev/null || { cat "$D/console.log"; die "no init"; }
        sleep 0.02
    done
    [ -n "$pid" ] || { cat "$D/console.log"; die "no init"; }
    echo "$pid" >"$D/leader"
    for i in $(seq 600); do
        case $(inside systemctl is-system-running 2>/dev/null || true) in running | degraded) return 0 ;; esac
        kill -0 "$pid" 2>/dev/null || { cat "$D/console.log"; die "init ended"; }
        sleep 0.05
    done
    cat "$D/console.log"
    die "not running after 30 s"
}

end() { # every process inside, at once
    local outer i
    outer=$(cat "$D/outer" 2>/dev/null || true)
    unplug
    alive && kill -9 "$(leader)"
    for i in $(seq 500); do
        if [ -z "$outer" ] || ! kill -0 "$outer" 2>/dev/null; then # gone with all its mounts, which takes it a second
            rm -f "$D/leader" "$D/outer" # their pids may be somebody else's from now on
            return 0
        fi
        # It was interrupted before its init was known. Nobody else has this folder as a word of their command line.
        [ -f "$D/leader" ] || ! grep -qzxF "$D" "/proc/$outer/cmdline" 2>/dev/null || kill -9 "$outer" || true
        sleep 0.02
    done
    die "pid $outer is still there 10 s after its machine was ended"
}

case $verb in
__init) # inside the new namespaces, still on the old root
    hostname "$NAME"
    R=$D/root
    mount -t overlay overlay -o "lowerdir=/,upperdir=$D/disk/upper,workdir=$D/disk/work" "$R"
    mount -t proc proc "$R/proc"
    mount -t sysfs -o ro sysfs "$R/sys"
    mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$R/dev"
    for n in null zero full random urandom tty; do
        touch "$R/dev/$n"
        mount --bind "/dev/$n" "$R/dev/$n"
    done
    mkdir -p "$R/dev/pts" "$R/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$R/dev/pts"
    ln -s pts/ptmx "$R/dev/ptmx"
    ln -s /proc/self/fd "$R/dev/fd"
    mount -t tmpfs -o mode=1777 tmpfs "$R/dev/shm"
    mount -t tmpfs -o mode=755 tmpfs "$R/run"
    while IFS== read -r source target; do
        mkdir -p "$R$target"
        mount --bind "$source" "$R$target"
    done <"$D/binds"
    ip link set lo up
    [ ! -f "$D/plug" ] || plug_in
    cat /proc/sys/kernel/random/uuid >"$D/boot_id"
    mount --bind "$D/boot_id" "$R/proc/sys/kernel/random/boot_id" # a reboot changes it
    cd "$R"
    mkdir -p .old
    pivot_root . .old
    umount -l /.old
    rmdir /.old 2>/dev/null || true
    exec env -i container=machine PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
        /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --log-level=notice --show-status=no
    ;;
plug)
    mkdir -p "$D"
    echo "$1 $2 v${2##*.}" >"$D/plug"
    ;;
up)
    alive && die "already up"
    mkdir -p "$D/disk" "$D/root"
    : >"$D/binds"
    hidden=()
    for word in "$@"; do
        case $word in -*) hidden+=("${word#-}") ;; *) echo "$word" >>"$D/binds" ;; esac
    done
    mountpoint -q "$D/disk" || mount -t tmpfs -o mode=755 tmpfs "$D/disk" # the machine's disk: outlives a reboot
    mkdir -p "$D/disk/upper/etc/systemd" "$D/disk/work"
    # Opaque: nothing that this machine has enabled is seen inside, only what a test installs.
    opaque=()
    for d in /etc/systemd/system /etc/systemd/user /etc/init.d /etc/rc?.d /var/lib/systemd/linger "${hidden[@]}"; do
        mkdir -p "$D/disk/upper$d"
        [ ! -d "$d" ] || chmod --reference="$d" "$D/disk/upper$d"
        opaque+=("$D/disk/upper$d")
    done
    python3 -c 'import os, sys; [os.setxattr(d, "trusted.overlay.opaque", b"y") for d in sys.argv[1:]]' "${opaque[@]}"
    mkdir -p "$D/disk/upper/etc/tmpfiles.d"
    ln -s /dev/null "$D/disk/upper/etc/tmpfiles.d/tmp.conf" # it would empty /tmp at every boot
    S=$D/disk/upper/etc/systemd/system
    for unit in systemd-remount-fs systemd-udevd systemd-udev-trigger systemd-udev-settle systemd-modules-load \
        systemd-sysctl systemd-binfmt systemd-timesyncd systemd-hwdb-update systemd-update-utmp \
        systemd-update-utmp-runlevel systemd-firstboot systemd-machine-id-commit systemd-sysusers systemd-pstore \
        systemd-random-seed systemd-boot-update systemd-ask-password-wall getty@ console-getty getty-static; do
        ln -sf /dev/null "$S/$unit.service"
    done
    for unit in systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-initctl.socket \
        proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
        sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
        systemd-ask-password-console.path systemd-ask-password-wall.path apt-daily.timer apt-daily-upgrade.timer; do
        ln -sf /dev/null "$S/$unit"
    done
    [ ! -d "$D/first" ] || cp -a "$D/first/." "$D/disk/upper/"
    boot
    ;;
adduser)
    alive || die "not up"
    inside useradd -m -s /bin/bash "$1"
    [ "${2:-}" != nolinger ] || exit 0
    inside loginctl enable-linger "$1"
    uid=$(inside id -u "$1")
    for i in $(seq 200); do
        inside test -S "/run/user/$uid/systemd/private" && exit 0
        sleep 0.05
    done
    die "no manager for $1"
    ;;
exec)
    alive || die "not up"
    inside "$@"
    ;;
as)
    alive || die "not up"
    user=$1
    shift
    home=$(inside getent passwd "$user" | cut -d: -f6)
    inside setpriv --reuid "$user" --regid "$(inside id -g "$user")" --init-groups \
        env -i HOME="$home" USER="$user" LOGNAME="$user" LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin "$@"
    ;;
reboot)
    alive || die "not up"
    outer=$(cat "$D/outer")
    if [ "${1:-}" = clean ]; then
        inside systemctl --no-block poweroff 2>/dev/null || true
        for i in $(seq 1200); do
            kill -0 "$outer" 2>/dev/null || break
            sleep 0.05
        done
    fi
    end
    boot
    ;;
off)
    alive || die "not up"
    end
    ;;
on)
    alive && die "already up"
    boot
    ;;
down)
    end
    mountpoint -q "$D/disk" && umount -l "$D/disk"
    for i in $(seq 100); do # nobody is in it, unless it was interrupted at its very beginning
        [ -d "$CGROUPS/$NAME" ] || break
        find "$CGROUPS/$NAME" -name cgroup.procs -exec cat {} + | xargs -r kill -9 2>/dev/null || true
        find "$CGROUPS/$NAME" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
    done
    rm -rf "$D"
    ;;
*) die "unknown verb $verb" ;;
esac
