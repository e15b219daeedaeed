"""What a flavour adds beside distributions: Debian packages, and its environment for logins."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from images.build import titles
from images.build.titles import LayerName
from images.content.python import bytecode
from images.inputs.lock.deb import Deb
from images.oci.layer.entry import Entry, of_bytes

if TYPE_CHECKING:
    from images.build.layer_recipes import Entries, Workshop


class Flavour(NamedTuple):
    """What a flavour has beside its lock.

    Attributes:
        name: e.g. `roll`.
        debs: the Debian packages that it adds to our base, with all that they depend on.
        env: the image's environment, for logins: sshd does not hand on that of the container.
    """

    name: str
    debs: Sequence[Deb]
    env: Mapping[str, str]


def debian(flavour: Flavour, base_debs: Sequence[Deb]) -> tuple[LayerName, Any, Entries]:
    """The layer of the Debian packages that a flavour adds: its name, inputs and entries."""
    from images.content.debian import extra_packages

    def entries(shop: Workshop, opened: ExitStack) -> Iterator[Entry]:
        found = extra_packages.entries(base_debs, flavour.debs, shop.cache, shop.workdir)
        return bytecode.compiled(found, shop.compiler)

    return (
        titles.added_debs(flavour.name),
        {"debs": extra_packages.key(base_debs, flavour.debs)},
        entries,
    )


def login(env: Mapping[str, str]) -> tuple[LayerName, Any, Entries]:
    """The image's environment for `ssh HOST COMMAND` (pam_env) and for login shells."""
    plain = "".join(f"{name}={value}\n" for name, value in env.items())
    script = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())

    def entries(shop: Workshop, opened: ExitStack) -> Iterator[Entry]:
        yield of_bytes("etc/environment", plain.encode())
        yield of_bytes("etc/profile.d/roll-images.sh", script.encode())

    return titles.LOGIN, {"login": [plain, script]}, entries
