"""Format numbers: one for each kind of bytes that is kept and found again by what it was made from.

A key is the digest of inputs (locks, recipes, sources); the code that turns them into bytes is not
among them, its number is. Raise a number in the commit that makes other bytes of the same inputs:
whatever was made before is then made anew, here and in shared caches. Two kinds of bytes have no
number here: recipes and workers whose files are hashed into a key themselves, and `bundle.json`,
whose number travels with its reader (`images.unbundle.document.FORMAT`).

tests/unit/test_format_numbers.py has a digest for each number, which a change without a
raised number breaks.
"""

from __future__ import annotations

# -- keys of layers --------------------------------------------------------------------------------

LAYER_WRITER = "2"
"""Tar and compressed blob of the same entries (`oci.layer.writer`). Part of every layer's key."""

BYTE_CODE = "4"
"""Where byte code goes and what it holds (`content.python.bytecode`, its worker). Part of every
layer's key."""

WHEELS = "1"
"""The files that installing a wheel makes (`formats.wheel_file`, the pinned `installer`). Part of
the key of every layer of distributions."""

GPU_CODE = "1"
"""The files of a wheel that by a rule lacks a part of its GPU code, debug sections or whole files
(`formats.wheel_changes`, `formats.libraries`). Part of the key of layers with such a wheel."""

SDIST = "1"
"""The wheel that an sdist becomes (`content.sdist.wheel_build`, its worker and sandbox). Part of
the key of layers with such a wheel."""

COMPILED_SDIST = "1"
"""The wheel of an sdist that is compiled in the base (`content.sdist.compiled_build`). Part of the
key of layers with such a wheel, beside the base's key and the worker's bytes."""

DEBIAN_ROOTFS = "2"
"""The base's files by mmdebstrap (`content.debian.rootfs`, `mmdebstrap`, `host_traces`). Part of
the base layer's key, beside the recipe's bytes."""

EXTRA_PACKAGES = "1"
"""The files that a flavour's Debian packages change (`content.debian.extra_packages`). Part of that
layer's key, beside the bytes of its recipe and worker."""

CUSTOM_BASE_VENV = "1"
"""The virtual environment on a custom base (`build.base.venv`). Part of that layer's
key."""

CUDA_COMPILER_12_4 = "1"
"""The CUDA 12.4 compiler's files of the same packages (`content.cuda.toolkit`). Part of that
layer's key."""

CUDA_COMPILER_13_0 = "1"
"""The same of the CUDA 13.0 compiler: raise the one whose files change."""

KERNELS = "3"
"""The kernels that are compiled of the same sources (`content.kernels.kernel_build`). Part of that
layer's key, beside the worker's bytes."""

CUDA_LINKS = "1"
"""The links to the wheels' CUDA libraries (`content.cuda.links`). Part of that layer's key."""

ROLL_RUNTIME = "1"
"""The wheel of the same sources of `roll_runtime` by the pinned uv (`content.runtime_wheel`). Part
of that layer's key."""

# -- locks -----------------------------------------------------------------------------------------

TARGET_LOCK = "1"
"""The lines of a target's lock (`inputs.lock.target_lock`, `resolve`). Part of its seal: raise it
when the same inputs would be locked otherwise, and lock."""

INTERPRETER = "2"
"""The interpreter's directory in the download cache (`content.python.interpreter`). Part of its
name and of its lock's seal: raise it when it is laid out otherwise, and lock."""

# -- documents -------------------------------------------------------------------------------------

SBOM = "3"
"""The SBOM of the same image and locks (`attest.sbom`). The version of its maker in the SBOM."""

PROVENANCE = "3"
"""The meaning of the provenance's parameters, as docs/supply-chain.md describes them
(`attest.provenance`). Part of its build type."""

CACHE_RECORD = "1"
"""The form of a shared cache's record (`build.cache_records`). Part of every tag: older builders do
not see newer records."""

# -- notes of a store and of a download cache ------------------------------------------------------

CUSTOM_BASE_FACTS = "2"
"""What is read of a custom base (`content.custom_base.facts`). Part of the name that it is kept
by."""

COMPARED_FILES = "1"
"""What a comparison of a target's files finds (`build.conflicts`). Part of the note that says that
it was made: raise it when one finds more."""
