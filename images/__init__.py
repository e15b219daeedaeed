"""The image builder: `matrix.yaml` in, OCI images out.

Data flows one way: matrix -> lock -> files -> layers -> image -> store -> registry, docker, bundle.
Modules take values and return values; only `commands` prints results, and only `build.py` exits.
`unbundle` runs where a bundle arrives, and has a command line of its own.
"""
