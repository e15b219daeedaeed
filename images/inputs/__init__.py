"""The inputs of a build: matrix.yaml, the locks, and the files that they lock.

Imports `formats`, `oci`, `http` and `util`. Within it, `resolve` imports `fetch`, and both import
`lock`.
"""
