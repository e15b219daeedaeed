# Run by mmdebstrap after packages were installed, of the base and of a flavour; $1 is the root.
set -eu
root=$1

# Byte code is made for the whole image in one way, by bytecode.py.
find "$root/usr" -name __pycache__ -prune -exec rm -rf {} +

# What belongs to this bootstrap or to this host, not to the image.
rm -rf "$root/packages"
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
rm -f "$root"/etc/passwd- "$root"/etc/group- "$root"/etc/shadow- "$root"/etc/gshadow-
rm -f "$root"/etc/subuid- "$root"/etc/subgid- "$root"/var/lib/dpkg/*-old
find "$root/var/cache" "$root/var/log" -type f -delete
