"""Links to the CUDA libraries and headers in a target's own wheels.

The compiler looks for them below /usr/local/cuda, the loader in its default directory. No library
is ever copied.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from posixpath import relpath

from images import image_paths
from images.errors import ConflictError
from images.oci.layer.entry import Entry, of_symlink

_HOME = image_paths.CUDA_HOME
_LOADER_DIRECTORY = "usr/lib/x86_64-linux-gnu"

# CUDA 12 has a directory for each library, CUDA 13 one for all (`cu13`). Older cuSPARSELt wheels
# have no `nvidia` directory above theirs.
_PACKAGE = r"(?:nvidia/(?P<package>\w+)|cusparselt)"
_LIBRARY = re.compile(
    _PACKAGE + r"/lib/(?P<file>(?P<link>lib[\w.+-]+?\.so)(?P<version>(?:\.\d+)*))"
)
_DEVICE_RUNTIME = re.compile(_PACKAGE + r"/lib/(?P<file>libcudadevrt\.a)")  # only CUDA 13's have it
_HEADER = re.compile(_PACKAGE + r"/include/(?P<file>.+)(?<!/)(?<!/__init__\.py)")


def entries(wheel_members: Mapping[str, Sequence[str]], own: Collection[str]) -> Iterator[Entry]:
    """Yield the links of a target, in a fixed order.

    They are in three directories: `lib64` for the linker, `include` for the compiler, and the
    loader's default directory, so that libraries are found without LD_LIBRARY_PATH or an entry in
    ld.so.cache (torch-memory-saver is preloaded and needs libcudart before anything sets a path).

    Args:
        wheel_members: the file names in the target's `nvidia-*` wheels, by distribution.
        own: distributions whose headers the compiler has already, in the version that fits it.

    Raises:
        ConflictError: two wheels contain the same library or header.
    """
    links: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name, members in sorted(wheel_members.items()):
        for member in sorted(members):
            for link in _link_paths(member, headers=name not in own):
                target = f"{image_paths.SITE_PACKAGES}/{member}"
                first = owners.setdefault(link, name)
                if links.setdefault(link, target) != target:
                    raise ConflictError(
                        f"/{link}: {first} and {name} contain it, as /{links[link]} and /{target}",
                        remedy="leave one of the two out: only one can be linked there",
                    )
    for link, target in sorted(links.items()):
        yield of_symlink(link, relpath(target, link.rpartition("/")[0]))


def of_the_loader(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Return the links outside /usr/local/cuda, for a base that has a compiler of its own there."""
    return (entry for entry in entries if not entry.path.startswith(f"{_HOME}/"))


def header(member: str) -> str | None:
    """Return the path below `include` of a wheel's member, or None if it is not a header."""
    match = _HEADER.fullmatch(member)
    return match["file"] if match else None


def _link_paths(member: str, *, headers: bool) -> Iterator[str]:
    """Yield the paths of the links to a wheel's member."""
    if library := _LIBRARY.fullmatch(member):
        yield f"{_HOME}/lib64/{library['file']}"
        if library["version"]:
            yield f"{_HOME}/lib64/{library['link']}"
            yield f"{_LOADER_DIRECTORY}/{library['file']}"
    elif archive := _DEVICE_RUNTIME.fullmatch(member):
        yield f"{_HOME}/lib64/{archive['file']}"
    elif headers and (file := header(member)):
        yield f"{_HOME}/include/{file}"
