"""Kernels that are compiled when an image is built, so that no container compiles them."""
