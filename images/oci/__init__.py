"""Values of the OCI specifications, with the layer format, the store and the registry below.

Knows nothing of SGLang, wheels or Debian, and could be a library. Imports `http` and `util`.
"""
