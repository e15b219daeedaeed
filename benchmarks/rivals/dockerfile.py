"""The Dockerfiles of the rivals, and the directories that they copy from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.checkout import Checkout, Variant
from images.build import grouping
from images.inputs.lock import distribution, target_lock
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.load import load
from images.inputs.resolve import uv

BASE = "bench-base:latest"
"""The image of our own lowest layers, Debian and the CUDA compiler, in each engine."""

_WHEEL = """\
FROM {base} AS runtime
ARG UV_PYTHON_DOWNLOADS=never
COPY roll_runtime /src
RUN --mount=type=bind,source=uv,target=/usr/local/bin/uv \\
    SOURCE_DATE_EPOCH=315532800 uv build --quiet --wheel --out-dir /wheel /src{unpacked}

FROM {base}
ENV PATH=/opt/venv/bin:/usr/local/cuda/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
_UNPACKED = """ && \\
    uv pip install --quiet --python /opt/venv --target /runtime --no-deps --no-index --no-cache \\
        --compile-bytecode /wheel/*.whl"""
_UV = """\
ARG UV_PYTHON_DOWNLOADS=never
ARG UV_LINK_MODE=copy
ARG UV_FIND_LINKS={index}
"""
_CACHED = """\
RUN --mount=type=bind,source=uv,target=/usr/local/bin/uv \\
    --mount=type=cache,target=/root/.cache/uv \\
    """
_INSTALL = (
    "uv pip install --no-index --python /opt/venv --no-deps --require-hashes --compile-bytecode"
)
_BUILD_NEEDS = (
    "uv pip install --no-index --python /opt/venv --target /tmp/build --no-deps -r /locks/build.txt"
)
_RUNTIME = "COPY {link}--from=runtime /runtime/ /opt/venv/lib/python3.11/site-packages/\n"

# As ROLL's repository installs SGLang: one command, no cache. The base has no pip; the sdist is
# built without isolation, or pip would install a second torch to build it with.
_PIP = """\
ARG PIP_NO_INDEX=1
ARG PIP_FIND_LINKS={index}
COPY requirements.txt build-pins.txt pip.whl /tmp/
RUN python /tmp/pip.whl/pip install --no-cache-dir --no-deps --ignore-installed \\
        pip -r /tmp/build-pins.txt && \\
    pip install --no-cache-dir --no-deps --no-build-isolation -r /tmp/requirements.txt
COPY --from=runtime /wheel /tmp/wheel
RUN pip install --no-cache-dir --no-deps /tmp/wheel/*.whl
"""


def without_link(recipe: Recipe) -> Recipe:
    """Return the same recipe for an engine without `COPY --link`."""
    return replace(recipe, link=False)


@dataclass(frozen=True)
class Recipe:
    """The recipe of a Dockerfile.

    Attributes:
        parts: the names of the lists that are installed one after the other, each by a RUN of its
            own; none for pip's single RUN.
        link: whether the runtime is copied by `COPY --link`, independent of the layers below.
    """

    parts: tuple[str, ...]
    link: bool = True

    def write(self, context: Context, index: str) -> None:
        """Write the Dockerfile for the files of the context."""
        content = _WHEEL.format(base=BASE, unpacked=_UNPACKED if self.parts else "")
        if self.parts:
            content += _UV.format(index=index)
            content += "".join(map(context.run, self.parts))
            content += _RUNTIME.format(link="--link " if self.link else "")
        else:
            content += _PIP.format(index=index)
        _replace(context.path / "Dockerfile", content)


STACK_REST = Recipe(("stack", "rest"))
STACK_LARGE_SMALL = Recipe(("stack", "large", "small"))
PIP = Recipe(())


class Context:
    """A directory that Dockerfiles copy from.

    Args:
        path: the directory, made when missing.
        checkout: the sources.
        pip: pip's wheel, which the base lacks.
    """

    def __init__(self, path: Path, checkout: Checkout, pip: Path) -> None:
        self.path = path
        self._checkout = checkout
        path.mkdir(parents=True, exist_ok=True)
        shutil.copy(uv.find(), path / "uv")
        shutil.copy(pip, path / "pip.whl")
        self._sdists: frozenset[str] = frozenset()
        self._names: tuple[str, ...] = ()

    def at(self, variant: Variant, recipe: Recipe, index: str) -> None:
        """Write sources, lists and Dockerfile of a variant; not timed, as our lock is not."""
        self._checkout.at(variant)
        found = locked(self._checkout, variant.target)
        lists = _lists(found)
        for name, items in lists.items():
            pins = name in ("requirements", "build-pins")  # ROLL's files have no hashes
            lines = (item.pin if pins else distribution.line_of(item) for item in items)
            _replace(self.path / f"{name}.txt", "".join(f"{line}\n" for line in lines))
        self._names = tuple(item.name for item in lists["stack"])
        sourced = {item for item in found.distributions if not item.is_wheel}
        self._sdists = frozenset(
            name for name, items in lists.items() if sourced.intersection(items)
        )
        runtime = self.path / "roll_runtime"
        if runtime.exists():
            shutil.rmtree(runtime)
        source = self._checkout.path / "roll_runtime"
        shutil.copytree(source, runtime, ignore=shutil.ignore_patterns("__pycache__"))
        recipe.write(self, index)

    def run(self, part: str) -> str:
        """Return the instructions that install a list."""
        install = f"{_INSTALL} -r /locks/{part}.txt"
        files = f"{part}.txt"
        if part in self._sdists:
            files += " build.txt"
            install = f"{_BUILD_NEEDS} && \\\n    PYTHONPATH=/tmp/build {install}"
            install += " --no-build-isolation && rm -r /tmp/build"
        return f"COPY {files} /locks/\n{_CACHED}{install}\n"

    def tidy(self) -> Path:
        """Write a Dockerfile that removes torch's stack from uv's cache; return its path."""
        path = self.path / "Dockerfile.tidy"
        command = f"uv cache clean --quiet {' '.join(self._names)}"
        _replace(path, f"FROM {BASE}\n{_CACHED}{command}\n")
        return path


def locked(checkout: Checkout, target: str) -> Lock:
    """Return the lock of a target as the sources have it now."""
    whole = load(checkout.matrix)
    return target_lock.read(whole, whole.target(target))


def _lists(found: Lock) -> Mapping[str, Sequence[Distribution]]:
    stack = [item for item in found.distributions if grouping.is_torch_stack(item)]
    rest = [item for item in found.distributions if not grouping.is_torch_stack(item)]
    large = [item for item in rest if item.artifact.size >= grouping.OWN_LAYER or not item.is_wheel]
    return {
        "stack": stack,
        "rest": rest,
        "large": large,
        "small": [item for item in rest if item not in large],
        "build": found.build,
        "build-pins": found.build,
        "requirements": found.distributions,
    }


def _replace(path: Path, content: str) -> None:
    if not path.exists() or path.read_text() != content:
        path.write_text(content)
