"""Limits of what is sent to a registry and fetched from one."""

TRANSFERS = 4
"""Blobs that are sent or fetched at a time: enough to fill a line, few enough for one disk."""
