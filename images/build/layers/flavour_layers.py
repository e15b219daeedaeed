"""What a flavour adds beside distributions: Debian packages, and its environment for logins."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from images.build import titles
from images.build.recipe import SMALL, Keys, LayerContext, Recipe, weight_of
from images.content.python import bytecode
from images.inputs.lock.deb import Deb
from images.oci.layer.entry import Entry, of_bytes


class Flavour(NamedTuple):
    """What a flavour has beside its lock.

    Attributes:
        name: e.g. `roll`.
        debs: the Debian packages that it adds to the Debian base, with all that they depend on.
        env: the image's environment, for logins: sshd does not hand on that of the container.
    """

    name: str
    debs: Sequence[Deb]
    env: Mapping[str, str]


def recipes(keys: Keys, flavour: Flavour, base_debs: Sequence[Deb]) -> list[Recipe]:
    """Return the layers of what a flavour adds beside distributions, lowest first."""
    if not flavour.debs:
        return []
    return [_debian(keys, flavour, base_debs), _login(keys, flavour.env)]


def _debian(keys: Keys, flavour: Flavour, base_debs: Sequence[Deb]) -> Recipe:
    from images.content.debian import extra_packages

    def entries(context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        found = extra_packages.entries(base_debs, flavour.debs, context.cache, context.workdir)
        return bytecode.compiled(found, context.compiler)

    name = titles.added_debs(flavour.name)
    key = keys.of({"debs": extra_packages.key(base_debs, flavour.debs)})
    debs = (*base_debs, *flavour.debs)
    return Recipe(name, key, (), debs, entries, weight_of(flavour.debs))


def _login(keys: Keys, env: Mapping[str, str]) -> Recipe:
    """Return the image's environment for `ssh HOST COMMAND` (pam_env) and for login shells."""
    plain = "".join(f"{name}={value}\n" for name, value in env.items())
    script = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())

    def entries(context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        yield of_bytes("etc/environment", plain.encode())
        yield of_bytes("etc/profile.d/roll-images.sh", script.encode())

    key = keys.of({"login": [plain, script]})
    return Recipe(titles.LOGIN, key, (), (), entries, SMALL)
