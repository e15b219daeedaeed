"""An image as part files for a machine without a registry; `unbundle` is what runs there."""
