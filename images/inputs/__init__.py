"""What decides a build: matrix.yaml, the locks, and the files that they lock.

Imports `formats`, `oci`, `http` and `util`.
"""
