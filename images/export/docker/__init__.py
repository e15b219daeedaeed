"""Images into a Docker daemon. Only this wing uses the Docker SDK."""
