"""Paths in every image.

Fixed for ever and here alone: caches of compiled kernels keep absolute paths.
"""

from __future__ import annotations

PYTHON = "3.11"
"""The one minor version for which every target has wheels."""

PREFIX = "opt/venv"
"""The virtual environment that holds every distribution."""

SITE_PACKAGES = f"{PREFIX}/lib/python{PYTHON}/site-packages"
BIN = f"{PREFIX}/bin"
CUDA_HOME = "usr/local/cuda"
