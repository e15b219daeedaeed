"""An image into a Docker daemon."""
