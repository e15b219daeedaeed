"""The layer format: entries to a tar and its compressed blob, and back.

`tar_stream`, `pieces` and `read_ahead` are part of `unpack.py` and keep to Python 3.8 and the
standard library.
"""
