#!/bin/sh
# Unpack a tar, run a command on its files, and pack what the command leaves in wheel/ and log.
#
#   sh -c "$(cat sandbox.sh)" confine WHERE DIRECTORY USER COMMAND...    < input.tar > output.tar
#
# WHERE is `closed`: the command's root is a file system in memory, mounted on DIRECTORY in
# namespaces that exist already; it has this machine's /usr and a few devices and nothing else. Or
# `open`: DIRECTORY is an empty directory of this machine. The files are unpacked into build/ below
# the command's root, or below DIRECTORY. USER is the id that the command gets, or `self`; it has no
# capability and gains none. The files that this shell reads and writes afterwards are in
# directories where the command cannot put a link.
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
	session="setsid --wait" # without the builder's terminal, which it could open
fi

tar --ignore-zeros --no-same-owner -xf - -C build
mkdir -p build/home build/source build/wheel
drop="setpriv --no-new-privs --inh-caps=-all --bounding-set=-all"
if [ "$user" != self ]; then
	chown -R "$user:$user" build/home build/source build/wheel
	if [ "$where" = closed ]; then
		# Ubuntu 22.04's setpriv needs /proc, which the new root lacks. The capabilities that chroot
		# needs are lost with the change of user.
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

# No exec: a process that changes its uid is no longer killed with its parent. The variables are
# meant to be split into words.
# shellcheck disable=SC2086
$session $enter $drop env -i "$@" < /dev/null > "$top/log" 2>&1 || echo "status $?" >> "$top/log"
# Without `open` this shell is the first process of its namespace: kill what the command left.
[ "$where" = open ] || kill -9 -1 2> /dev/null || :
tar -cf - -C "$top" log -C "$root/build" wheel
