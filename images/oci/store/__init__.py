"""The store: an OCI image layout directory, with the keys of its layers."""
