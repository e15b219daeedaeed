"""Readers of shared libraries, and what leaves them on their way into an image.

Libraries are members of zips: they are read as streams, forwards, and never held in memory.
"""
