"""matrix.yaml as `Target` records."""
