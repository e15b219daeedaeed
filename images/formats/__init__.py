"""Readers of package formats: wheels, sdists, Debian packages, tars of root file systems.

Imports `oci` (entries of a layer) and `util`.
"""
