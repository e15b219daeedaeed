"""Builds a target: from its locks to layers to an image.

Imports `export` (the shared cache is a registry) and what that may import.
"""
