"""Which Docker daemon is meant: chosen as the `docker` command line chooses it.

DOCKER_HOST goes first, then the context that DOCKER_CONTEXT names, then the current one of Docker's
configuration (`docker context use`), then the socket of this machine. The SDK reads contexts only
in its newer versions, below the working directory where there is no config.json, and takes one that
does not exist for this machine's socket: so they are read here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images.errors import DockerError
from images.util import untrusted_json

_SOCKET = "unix:///var/run/docker.sock"
_DEFAULT = "default"
_REMEDY = "docker context ls shows those that there are; docker context use NAME chooses one"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a daemon is.

    Attributes:
        address: e.g. `unix:///var/run/docker.sock`.
        chosen_by: what names it, for people.
        options: what the SDK's client is to be made with.
    """

    address: str
    chosen_by: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.address} ({self.chosen_by})"


def find() -> Endpoint:
    """The daemon that `docker` would talk to.

    Raises:
        DockerError: the context does not exist, or cannot be read.
        docker.errors.DockerException: the files for TLS that the environment names are not there.
    """
    from docker.utils import kwargs_from_env

    if host := os.environ.get("DOCKER_HOST"):
        return Endpoint(host, "DOCKER_HOST", kwargs_from_env())
    name, chosen_by = _context()
    if name == _DEFAULT:
        return Endpoint(_SOCKET, "neither DOCKER_HOST nor a context names another")
    return _of_context(name, f"the context {name}, by {chosen_by}")


def _directory() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _context() -> tuple[str, str]:
    """The name of the context, and what names it."""
    if name := os.environ.get("DOCKER_CONTEXT"):
        return name, "DOCKER_CONTEXT"
    try:
        content = untrusted_json.loads((_directory() / "config.json").read_bytes())
        name = str(content.get("currentContext") or _DEFAULT)
    except (OSError, ValueError, AttributeError):  # as `docker`: it warns, and goes on without
        name = _DEFAULT
    return name, "docker context use"


def _of_context(name: str, where: str) -> Endpoint:
    place, key = _directory() / "contexts", hashlib.sha256(name.encode()).hexdigest()
    try:
        document = untrusted_json.loads((place / "meta" / key / "meta.json").read_bytes())
        endpoint = document["Endpoints"]["docker"]
        address = str(endpoint.get("Host") or _SOCKET)
        unverified = bool(endpoint.get("SkipTLSVerify"))
    except FileNotFoundError:
        raise DockerError(f"{where}: does not exist", remedy=_REMEDY) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DockerError(f"{where}: cannot be read: {error!r}", remedy=_REMEDY) from None
    options: dict[str, Any] = {"base_url": address}
    if address.startswith("tcp:"):
        options["tls"] = _tls(place / "tls" / key / "docker", unverified=unverified)
    return Endpoint(address, where, options)


def _tls(place: Path, *, unverified: bool) -> Any:
    """TLS with the context's files; False where it has none and asks for none."""
    from docker.tls import TLSConfig

    authority, *own = (str(place / f"{name}.pem") for name in ("ca", "cert", "key"))
    pair = all(Path(path).is_file() for path in own)
    known = Path(authority).is_file()
    if not (known or pair or unverified):
        return False
    return TLSConfig(
        client_cert=(own[0], own[1]) if pair else None,
        ca_cert=authority if known else None,
        verify=not unverified,
    )
