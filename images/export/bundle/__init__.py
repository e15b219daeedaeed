"""Images as part files for machines without a registry; `unbundle` runs there."""
