"""The text of DIR.enter, for any POSIX shell; enter.py fills it in.

Each @WORD@ is replaced once. All mounts are in a mount namespace of the command and end with it;
without --scratch the command can change the unpacked files, as root in a container can.
"""

from __future__ import annotations

SCRIPT = r"""#!/bin/sh
# Runs a command in the unpacked image @REF@
# (@DIGEST@).
#
#   DIR.enter [OPTION...] [COMMAND [ARGUMENT...]]     without a command, a shell
#
#   --scratch             changes of the image's files are in memory and end with the command
#   --pid                 own process namespace: it sees no others and ends none (ray stop, pkill)
#   --user USER[:GROUP]   as that user, by the image's names or by numbers; needs root
#
# As root or, where the kernel lets users make namespaces, as an ordinary user, who is root inside.
# The command gets what a container gets: the image's environment alone, a writable HOME and /tmp,
# the host's NVIDIA driver with nvidia-smi. /dev/shm is the host's if it has 1 GB. The host's files
# are under /mnt. Other environment: DIR.enter env NAME=VALUE COMMAND.
set -eu
fail() {
    printf 'error: %s\nfix: %s\n' "$1" "$2" >&2
    exit 1
}
root=${0%.enter}
if [ "${1-}" != --inside-namespace ]; then
    scratch= pid= user= own=
    while :; do
        case "${1-}" in
            --scratch) scratch=yes ;;
            --pid) pid=yes ;;
            --user)
                user=${2-}
                [ -n "$user" ] || fail '--user without a user' "$0 --help"
                shift ;;
            --help)
                sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
                exit ;;
            --)
                shift
                break ;;
            -*) fail "$1: no such option" "$0 --help; options of a command come after it" ;;
            *) break ;;
        esac
        shift
    done
    rights='run it as root; in a container with CAP_SYS_ADMIN'
    if [ "$(id -u)" != 0 ]; then
        own='--user --map-root-user'
        rights="$rights; or have user namespaces allowed, see sysctl user.max_user_namespaces and"
        rights="$rights kernel.apparmor_restrict_unprivileged_userns"
        [ -z "$user" ] || fail '--user needs root' 'leave it out: files that you write are yours'
    fi
    [ -z "$pid" ] || own="$own --pid --fork --kill-child"
    unshare $own --mount true || fail 'namespaces are refused here, see above' "$rights"
    exec unshare $own --mount --propagation private -- \
        /bin/sh "$0" --inside-namespace "$scratch" "$pid" "$user" "$@"
fi
scratch=$2 pid=$3 user=$4
shift 4
umask 022
cd "$root"
path=@PATH@ libraries=@LIBRARIES@

# -- the root --------------------------------------------------------------------------------------
if [ -n "$scratch" ]; then
    mount -t tmpfs -o mode=0755 tmpfs mnt
    mkdir mnt/upper mnt/work mnt/root
    # Relative: an absolute path may contain a separator of mount options.
    layers=lowerdir=.,upperdir=mnt/upper,workdir=mnt/work
    mount -t overlay overlay -o "$layers" mnt/root 2>/dev/null ||
        mount -t overlay overlay -o "$layers,userxattr" mnt/root ||
        fail 'an overlay is refused here, see above' \
            'leave out --scratch, or use a kernel with overlayfs (gVisor has none)'
    cd mnt/root
fi
mount --rbind / mnt
if [ -n "$pid" ]; then mount -t proc proc proc; else mount --rbind /proc proc; fi
mount --rbind /sys sys
mount --rbind /dev dev
kilobytes=$(df -Pk dev/shm 2>/dev/null | awk 'NR == 2 { print $2 }')
if [ -d dev/shm ] && [ "${kilobytes:-0}" -lt 1000000 ]; then
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
fi
# In memory: the unpacked files must not change.
mount -t tmpfs -o mode=0755 tmpfs run
mkdir -m 1777 run/lock

# -- the user, HOME and /tmp -----------------------------------------------------------------------
chroot=$(command -v chroot || echo /usr/sbin/chroot)
as_user() { env -i PATH="$path" "$chroot" ${user:+"--userspec=$user"} . "$@"; }
known=$(awk -F: -v "user=${user%%:*}" '
    user == $1 || user == $3 || user == "" && $3 == 0 { print $4 ":" $6; exit }
' etc/passwd 2>/dev/null || true)
[ -n "$known" ] || known=0:/root
case "$user" in '' | *:*) ;; *) user=$user:${known%%:*} ;; esac
home=${known#*:}
can_write() { # By writing: a file system may refuse what modes allow.
    as_user sh -c '[ -d "$1" ] && mkdir "$1/$2" && rmdir "$1/$2"' sh "$1" ".enter-$$" 2>/dev/null
}
if ! can_write "$home"; then
    home=/run/home
    mkdir -m 1777 run/home
fi
can_write /tmp || mount -t tmpfs -o mode=1777 tmpfs tmp

# -- names of hosts --------------------------------------------------------------------------------
host=$(uname -n)
if ! awk -v "host=$host" '
    { for (i = 2; i <= NF && $i !~ /^#/; i++) if ($i == host) found = 1 } END { exit !found }
' /etc/hosts 2>/dev/null; then
    # The host resolves its own name by DNS or by a libc module that the image may lack.
    address=$(getent ahostsv4 "$host" 2>/dev/null | awk 'NR == 1 { print $1 }' || true)
    cat /etc/hosts > run/hosts 2>/dev/null || echo 127.0.0.1 localhost > run/hosts
    printf '%s\t%s\n' "${address:-127.0.0.1}" "$host" >> run/hosts
fi
for file in etc/resolv.conf etc/hosts; do
    source=/$file
    if [ "$file" = etc/hosts ] && [ -e run/hosts ]; then source=run/hosts; fi
    [ -e "$source" ] && [ ! -L "$file" ] || continue
    [ -e "$file" ] || touch "$file" 2>/dev/null || continue
    mount --bind "$source" "$file"
done

# -- the NVIDIA driver -----------------------------------------------------------------------------
# What NVIDIA's container runtime mounts for `compute,utility`, from where the host's linker finds
# it; otherwise from LD_LIBRARY_PATH and the directories of GKE, Debian, Red Hat, WSL and Colab.
directories=/usr/local/nvidia/lib64:/usr/lib/x86_64-linux-gnu:/usr/lib64:/usr/lib/wsl/lib
directories=${LD_LIBRARY_PATH-}:$directories:/usr/lib64-nvidia
programs=$PATH:/usr/local/nvidia/bin:/usr/bin:/usr/sbin:/usr/lib/wsl/lib:/opt/bin
cached() {
    (ldconfig -p || /sbin/ldconfig -p) 2>/dev/null |
        sed -n 's/^[[:space:]]*lib\(cuda\|cudadebugger\|nvidia-[^ ]*\)\.so[^ ]* .*x86-64.* => //p'
}
listed() (
    IFS=:
    for at in $directories; do
        case "$at" in /*) ;; *) continue ;; esac
        for file in "$at"/libcuda.so* "$at"/libcudadebugger.so* "$at"/libnvidia-*.so*; do
            # 64-bit and x86-64, by bytes 4 and 18 of the ELF header.
            case "$(od -An -tx1 -j4 -N15 "$file" 2>/dev/null)" in
                ' 02 '*' 3e') printf '%s\n' "$file" ;;
            esac
        done
    done
)
bind_file() { # FILE DIRECTORY
    inside=$2/${1##*/}
    if [ -e "$1" ] && [ ! -e "$inside" ]; then
        : > "$inside"
        mount --bind "$(readlink -f "$1")" "$inside"
    fi
}
mkdir run/driver run/driver/lib run/driver/bin
{ cached; listed; } > run/driver/found
while read -r file; do
    bind_file "$file" run/driver/lib
done < run/driver/found
rm run/driver/found
for program in nvidia-smi nvidia-debugdump nvidia-persistenced \
    nvidia-cuda-mps-control nvidia-cuda-mps-server; do
    file=$(PATH=$programs; command -v "$program") || continue
    bind_file "$file" run/driver/bin
done
for daemon in nvidia-persistenced nvidia-fabricmanager; do
    [ -S "/run/$daemon/socket" ] || continue
    mkdir "run/$daemon"
    bind_file "/run/$daemon/socket" "run/$daemon"
done
if [ -e run/driver/lib/libcuda.so.1 ]; then
    path=$path:/run/driver/bin
    libraries=/run/driver/lib${libraries:+:$libraries}
elif [ -e /dev/nvidiactl ]; then
    echo 'warning: libcuda.so.1 of the NVIDIA driver is not found' >&2
    echo 'fix: name its directory in LD_LIBRARY_PATH' >&2
fi

# -- the command -----------------------------------------------------------------------------------
[ "$#" -gt 0 ] || set -- @COMMAND@
# The command is found by the image's PATH; chroot itself is the host's. With --pid this shell is
# the first process of the namespace: it reaps orphans, and ends with its parent, whatever the user.
[ -n "$pid" ] && exec= || exec=exec
$exec env -i HOME="$home" TERM="${TERM-dumb}" PATH="$path" \
    ${libraries:+"LD_LIBRARY_PATH=$libraries"} \
    @ENV@ "$chroot" ${user:+"--userspec=$user"} . "$@"
"""
