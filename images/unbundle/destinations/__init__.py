"""Destinations of layers: an OCI layout, or a directory of files."""
