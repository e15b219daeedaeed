"""The Debian root file system that is the default base, and Debian packages on top of it."""
