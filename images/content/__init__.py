"""The files of an image: its modules make entries of layers, and no blob.

Imports `inputs` and what that may know.
"""
