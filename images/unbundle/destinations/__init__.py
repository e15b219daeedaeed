"""Where bytes of layers go: an OCI layout, or a directory of files."""
