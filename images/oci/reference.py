"""Names of images in registries: `REGISTRY/REPOSITORY[:TAG]`.

Specification: OCI Distribution Spec 1.1, "Pulling manifests" (the grammar of names and tags). There
is no default registry: a name without a host is refused, so nothing is pushed to a public registry
by mistake.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace

from images.errors import UsageError

_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)(?::[0-9]{1,5})?"
)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME = re.compile(rf"{_PART}(?:/{_PART})*")
"""The name of a repository."""

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_OF_COMMIT = re.compile(r".*-[0-9a-f]{12}(?:[0-9a-f]{28})?")
_LONGEST = 255
"""Characters of host and name together: the limit of many clients, by the specification."""

_EXAMPLE = "write e.g. registry.example.com/team/roll-sglang, or localhost:5000/roll-sglang"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of one registry.

    Attributes:
        registry: `HOST[:PORT]`.
        name: the path below it, e.g. `team/roll-sglang`.
    """

    registry: str
    name: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}"


def canonical(repository: Repository, *, plain_http: bool) -> Repository:
    """Return the repository with its registry in its canonical spelling.

    Args:
        repository: in any spelling.
        plain_http: whether its registry is asked without TLS.
    """
    from images.http import origin

    there = origin.of_registry(repository.registry, plain_http=plain_http)
    return replace(repository, registry=there.authority)


def parse(text: str) -> tuple[Repository, str | None]:
    """Return the repository and the tag, if there is one, of `REGISTRY/REPOSITORY[:TAG]`.

    Raises:
        UsageError: the text is not a name; the message says why.
    """
    if "://" in text:
        raise _wrong(text, "an image's name has no scheme", "leave out all up to //")
    if "@" in text:
        raise _wrong(text, "a digest cannot be chosen", "leave out @ and all after it")
    host, slash, rest = text.partition("/")
    if not slash or not _is_host(host):
        raise _wrong(text, "names no registry (a host with a dot or a port, or localhost)")
    last = rest.rpartition("/")[2]
    tag = last.partition(":")[2] if ":" in last else None
    name = rest if tag is None else rest[: -len(tag) - 1]
    if tag is not None and not TAG.fullmatch(tag):
        raise _wrong(text, f"{tag!r} is not a tag", "letters, digits, dots, - and _, at most 128")
    return Repository(host, _checked(text, host, name)), tag


def check_moves(repository: Repository, tag: str, before: str | None) -> None:
    """Check that a tag may name another image than now.

    A tag that ends in a commit (`ID-0123456789ab`) is the name of what was built of that commit: a
    new image under it would replace one that others rely on.

    Args:
        repository: where the tag is.
        tag: the tag.
        before: the digest that it names, None if there is no such tag.

    Raises:
        UsageError: the tag ends in a commit and names an image.
    """
    if before is not None and _OF_COMMIT.fullmatch(tag):
        raise UsageError(
            f"{repository}:{tag}: names {before} already, and a tag that ends in a commit never "
            "moves",
            remedy="choose another tag: an earlier build of the commit made another image",
        )


def repository_name(text: str, registry: str, *, plain_http: bool = False) -> str:
    """Return the name of a repository that is given with or without its registry.

    Args:
        text: `REPOSITORY` or `REGISTRY/REPOSITORY`.
        registry: the only one that it may be in.
        plain_http: whether that registry is asked without TLS.

    Raises:
        UsageError: it is not a name, or in another registry.
    """
    host, _, rest = text.partition("/")
    if rest and (host == registry or _is_host(host)):
        given, own = Repository(host, rest), Repository(registry, rest)
        if canonical(given, plain_http=plain_http) == canonical(own, plain_http=plain_http):
            return _checked(text, registry, rest)
        raise _wrong(text, "is in another registry", f"name a repository of {registry}")
    return _checked(text, registry, text)


def _checked(text: str, host: str, name: str) -> str:
    if not NAME.fullmatch(name):
        hint = "lower-case letters and digits, between them . _ - and /"
        raise _wrong(text, f"{name!r} is not a repository name", hint)
    if len(host) + len(name) >= _LONGEST:
        raise _wrong(text, f"longer than {_LONGEST} characters", "choose a shorter name")
    return name


def _is_host(text: str) -> bool:
    named = "." in text or ":" in text or text.lower() == "localhost"
    if not named or not _HOST.fullmatch(text):
        return False
    from images.http import origin

    with suppress(ValueError):  # not a port, not an address
        return bool(origin.of_registry(text, plain_http=False))
    return False


def _wrong(text: str, why: str, remedy: str = _EXAMPLE) -> UsageError:
    return UsageError(f"{text}: {why}", remedy=remedy)
