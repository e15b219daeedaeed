"""Images on their way to where they run: registries, Docker, bundles.

Imports `attest` and what that may import.
"""
