# Run by mmdebstrap when the root has dpkg; $1 is that root, with .debs in $1/packages.
#
# What decides about bytes is done by programs of the image, not of the host: hosts with other
# versions of apt and tar then make the same files.
set -eu
root=$1

# A layer holds no capabilities of files, and a file system of the host's may hold none: packages
# that want some are told so, and do without.
mkdir "$root/packages/bin"
printf '#!/bin/sh\nexit 1\n' > "$root/packages/bin/setcap"
chmod 755 "$root/packages/bin/setcap"

inside() {
	env -i PATH=/packages/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TZ=UTC0 \
		DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true \
		SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" chroot "$root" "$@"
}

# One unpacking and one configuring run for all: each trigger (ldconfig and so on) runs once. dpkg
# finds the order of configuring itself; --force-depends is for unpacking only.
inside sh -c 'exec dpkg --unpack --skip-same-version --force-depends /packages/*.deb'
inside dpkg --configure --pending
test -z "$(inside dpkg --audit)"
