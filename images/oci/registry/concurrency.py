"""How many transfers and requests to one registry run at a time."""

TRANSFERS = 4
"""Parallel uploads or downloads: enough for the whole bandwidth, few enough for one disk."""

REQUESTS = 16
"""Simultaneous requests to one registry that carry no blob."""
