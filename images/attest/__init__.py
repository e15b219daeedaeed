"""What is claimed about an image: SBOM, provenance, and evidence of GPU runs.

Imports `content` and what that may import.
"""
