# Run by mmdebstrap after the essential packages are extracted and before dpkg installs them; $1 is
# the new root. dpkg leaves out what dpkg.cfg excludes; the plain extraction before it does not.
# (mmdebstrap can filter it, at the cost of a Python process a package: 8 s.)
set -eu
for directory in doc man info locale lintian bug gdb; do
	rm -rf "$1/usr/share/$directory"
done
rm -rf "$1/usr/lib/dpkg/methods"
