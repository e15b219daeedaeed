"""An image into a registry."""
