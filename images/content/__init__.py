"""The files of an image: modules that make entries of layers, and no blob.

Imports `inputs` and what that may import.
"""
