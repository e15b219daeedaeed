"""Check of a node of the cluster, before any layer is made there.

It runs on the node, perhaps without any package that the builder needs: the top of this module
imports the standard library alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import metadata

from images.build.cluster.tasks import Job
from images.errors import BuildError
from images.requirements import OLDEST

_INSTALL = "pip install --require-hashes --no-deps -r .github/requirements.txt"


def fault(requirements: Sequence[str], job: Job) -> tuple[str, str] | None:
    """Return why this node cannot make layers, and the fix; None if it can.

    Args:
        requirements: of the builder, as in pyproject.toml.
        job: what the tasks have in common.
    """
    if sys.version_info < OLDEST:
        return f"Python {sys.version.split()[0]} is too old", "run Ray with Python 3.10 or newer"
    if wrong := list(_wrong(requirements)):
        return f"{sys.executable}: {', '.join(wrong)}", f"on the node: {_INSTALL}"
    try:
        _check(job)
    except BuildError as error:
        return error.message, error.remedy or ""
    return None


def _wrong(requirements: Sequence[str]) -> Iterator[str]:
    """Yield a text on each package that is missing, or has a version that is not the required."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        yield "no package packaging"
        return
    for requirement in map(Requirement, requirements):
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield f"no package {requirement.name}"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found} is not {requirement.specifier}"


def _check(job: Job) -> None:
    from images.build import layer_cache, preflight
    from images.content.debian import mmdebstrap
    from images.util import user_cache

    cache = user_cache.directory()
    preflight.check_platform()
    preflight.check_programs_may_run(cache)
    preflight.check_writable(cache)
    mmdebstrap.check()
    layer_cache.check(layer_cache.location(job.repository, plain_http=job.plain_http))
