"""Sdists to wheels, built in a sandbox."""
