"""Wheels from sdists, built in a sandbox."""
