"""The image builder: `matrix.yaml` in, OCI images out.

Data flows one way: matrix -> lock -> files -> layers -> image -> store -> docker, bundle. Every
module takes values and returns values; only `build.py` prints results and exits. `unbundle` runs
where a bundle arrives, and has a command line of its own.
"""
