# Run by mmdebstrap before and after the packages of a flavour are installed; $1 is the root.
set -eu
root=$1

# What a running system makes anew. /run/lock is Debian's own (/var/lock is a link to it).
find "$root/run" -xdev -mindepth 1 ! -path "$root/run/lock" -delete
rm -f "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"

# Host keys that all containers share would let anybody who has the image pose as any of them.
# A user makes his own: `ssh-keygen -A`.
rm -f "$root"/etc/ssh/ssh_host_*

# Earlier versions of ucf's records.
rm -f "$root"/var/lib/ucf/hashfile.[0-9] "$root"/var/lib/ucf/registry.[0-9]

# sshd asks for this directory, which only init scripts make.
if test -e "$root/usr/sbin/sshd"; then
	install -d -m 755 "$root/run/sshd"
fi
