"""How many transfers between a store and a registry run at a time."""

TRANSFERS = 4
"""Parallel uploads or downloads: enough for the whole bandwidth, few enough for one disk."""
