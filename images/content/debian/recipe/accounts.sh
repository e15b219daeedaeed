# Run by mmdebstrap when all packages of the base are installed; $1 is the new root.
#
# An account for whoever does not run as root. Group 0 and the sticky bit let an arbitrary uid
# write to this HOME as well: with or without group 0 (OpenShift, docker run --user).
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot "$1" groupadd --gid 1000 roll
chroot "$1" useradd --uid 1000 --gid 1000 --shell /bin/bash --no-create-home \
	--home-dir /home/roll roll
chroot "$1" install -d -m 1777 -o roll -g root /home/roll
