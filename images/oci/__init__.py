"""Values of the OCI specifications, and below them the layer format, the store and the registry.

Knows nothing of SGLang, wheels or Debian, and could be lifted out. Imports `http` and `util`.
"""
