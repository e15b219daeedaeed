# Run by mmdebstrap after the essential packages are installed; $1 is the new root.
#
# What decides about bytes is done by programs of the image, not of the host: hosts with other
# versions of apt and tar then make the same base.
set -eu
root=$1

inside() {
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TZ=UTC0 \
		DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true \
		SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" chroot "$root" "$@"
}

# One unpacking and one configuring run for all: each trigger (ldconfig and so on) runs once. dpkg
# finds the order of configuring itself; --force-depends is for unpacking only.
inside sh -c 'exec dpkg --unpack --skip-same-version --force-depends /packages/*.deb'
inside dpkg --configure --pending
test -z "$(inside dpkg --audit)"

# An account for whoever does not run as root. Group 0 and the sticky bit let an arbitrary uid
# write to this HOME as well: with or without group 0 (OpenShift, docker run --user).
inside groupadd --gid 1000 roll
inside useradd --uid 1000 --gid 1000 --shell /bin/bash --no-create-home --home-dir /home/roll roll
inside install -d -m 1777 -o roll -g root /home/roll

# Byte code is made for the whole image in one way, by bytecode.py.
find "$root/usr" -name __pycache__ -prune -exec rm -rf {} +

# What belongs to this bootstrap or to this host, not to the image.
rm -rf "$root/packages"
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
rm -f "$root"/etc/passwd- "$root"/etc/group- "$root"/etc/shadow- "$root"/etc/gshadow-
rm -f "$root"/etc/subuid- "$root"/etc/subgid- "$root"/var/lib/dpkg/*-old
find "$root/var/cache" "$root/var/log" -type f -delete
