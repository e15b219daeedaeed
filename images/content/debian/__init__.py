"""The Debian root file system of the default base, and Debian packages on top of it."""
