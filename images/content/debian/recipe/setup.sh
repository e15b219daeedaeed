# Run by mmdebstrap before anything is extracted; $1 is the new root, with the locked packages in
# $1/packages.
set -eu

# Debian's merged /usr: the packages' files in /bin and /lib follow these links.
for directory in bin sbin lib lib64; do
	mkdir -p "$1/usr/$directory"
	ln -s "usr/$directory" "$1/$directory"
done

# The root's own path is not known before it is made. No signature is needed: each package was
# checked against the lock when it was fetched.
echo "deb [trusted=yes] copy://$1/packages ./" > "$1/etc/apt/sources.list"
