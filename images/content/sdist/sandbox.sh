#!/bin/sh
# Unpacks a tar, runs a command on its files, and packs what the command leaves in wheel/ and log.
#
#   sh -c "$(cat confine.sh)" confine WHERE DIRECTORY USER COMMAND...    < input.tar > output.tar
#
# WHERE is `closed`: the command's root is a file system in memory, put on DIRECTORY in namespaces
# that were made before; it has /usr and a few devices of this machine and nothing else. Or `open`:
# DIRECTORY is an empty one of this machine. The files come into build/ below the command's root,
# or below DIRECTORY. USER is the id that the command gets, or `self`; it has no capability and
# gains none. What this shell writes and reads afterwards lies where the command cannot put a link.
set -eu
where=$1 top=$2 user=$3
shift 3

if [ "$where" = closed ]; then
	mount -t tmpfs -o mode=755 confined "$top"
	root=$top/root
	mkdir "$root"
	mount -t tmpfs -o mode=755 confined "$root"
	cd "$root"
	mkdir build tmp dev usr etc
	mount -t tmpfs -o mode=755 confined build
	mount -t tmpfs -o mode=1777 confined tmp
	id=$user
	[ "$id" != self ] || id=0
	echo "build:x:$id:$id::/build/home:/bin/sh" > etc/passwd
	mount --rbind /usr usr
	for name in bin lib lib64 sbin; do
		if [ -L "/$name" ]; then
			ln -s "$(readlink "/$name")" "$name"
		elif [ -d "/$name" ]; then
			mkdir "$name"
			mount --rbind "/$name" "$name"
		fi
	done
	for name in full null random urandom zero; do
		: > "dev/$name"
		mount --bind "/dev/$name" "dev/$name"
	done
	mount -o remount,ro,mode=755 confined "$root"
	enter="chroot $root"
	session=
else
	root=$top
	cd "$root"
	mkdir build
	enter=
	session="setsid --wait" # the terminal that it could open would be the builder's
fi

tar --ignore-zeros --no-same-owner -xf - -C build
mkdir -p build/home build/source build/wheel
drop="setpriv --no-new-privs --inh-caps=-all --bounding-set=-all"
if [ "$user" != self ]; then
	chown -R "$user:$user" build/home build/source build/wheel
	if [ "$where" = closed ]; then
		# Ubuntu 22.04's setpriv works only where /proc has it, so not in the new root. What chroot
		# needs of capabilities goes with the user.
		mount -t proc confined /proc 2> /dev/null || :
		drop="$drop,+sys_chroot,+setuid,+setgid"
		enter="$drop -- chroot --userspec=+$user:+$user --groups= $root"
		drop=
	else
		drop="$drop --reuid=$user --regid=$user --clear-groups --"
	fi
else
	drop="$drop --"
fi

# Not in place of this shell: the kernel forgets whom to kill with its parent where a uid changes.
# Words of ours, meant to be split.
# shellcheck disable=SC2086
$session $enter $drop env -i "$@" < /dev/null > "$top/log" 2>&1 || echo "status $?" >> "$top/log"
# Here this shell is the first process: that is whatever the command left behind.
[ "$where" = open ] || kill -9 -1 2> /dev/null || :
tar -cf - -C "$top" log -C "$root/build" wheel
