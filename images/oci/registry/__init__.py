"""Registry client: the OCI Distribution Spec over HTTP."""
