"""General helpers: files, digests, output, limits.

Imports nothing of the project except `errors` and `printable`. `limits` and `untrusted_files` are
part of `unpack.py`: they keep to Python 3.8 and the standard library.
"""
