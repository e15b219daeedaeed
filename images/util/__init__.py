"""General helpers: files, digests, output, limits.

Imports nothing of the project but `errors`. `limits` and `untrusted_files` travel in `unpack.py`
and keep to Python 3.8 and the standard library.
"""
