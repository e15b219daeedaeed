"""The client of a registry: the distribution specification over HTTP."""
