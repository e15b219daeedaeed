"""Push of an image to a registry."""
