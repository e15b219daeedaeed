"""matrix.yaml to `Target` records."""
