"""Address of the Docker daemon, selected as the `docker` command line does it.

DOCKER_HOST comes first, then the context that DOCKER_CONTEXT names, then the current context of
Docker's configuration (`docker context use`), then the socket of this machine. Only newer versions
of the SDK read contexts; they look below the working directory if there is no config.json, and use
this machine's socket for a context that does not exist. So contexts are read here.
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
_REMEDY = "docker context ls lists the contexts; docker context use NAME selects one"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a daemon.

    Attributes:
        address: e.g. `unix:///var/run/docker.sock`.
        chosen_by: what selected it, for people.
        options: arguments of the SDK's client.
    """

    address: str
    chosen_by: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.address} ({self.chosen_by})"


def find() -> Endpoint:
    """Return the daemon that `docker` would use.

    Raises:
        DockerError: the context does not exist, or cannot be read.
        docker.errors.DockerException: TLS files that the environment names do not exist.
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
    """Return the name of the context, and what selected it."""
    if name := os.environ.get("DOCKER_CONTEXT"):
        return name, "DOCKER_CONTEXT"
    try:
        content = untrusted_json.loads((_directory() / "config.json").read_bytes())
        name = str(content.get("currentContext") or _DEFAULT)
    except (OSError, ValueError, AttributeError):  # as `docker`, which warns and uses the default
        name = _DEFAULT
    return name, "docker context use"


def _of_context(name: str, where: str) -> Endpoint:
    contexts, key = _directory() / "contexts", hashlib.sha256(name.encode()).hexdigest()
    try:
        document = untrusted_json.loads((contexts / "meta" / key / "meta.json").read_bytes())
        endpoint = document["Endpoints"]["docker"]
        address = str(endpoint.get("Host") or _SOCKET)
        unverified = bool(endpoint.get("SkipTLSVerify"))
    except FileNotFoundError:
        raise DockerError(f"{where}: does not exist", remedy=_REMEDY) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DockerError(f"{where}: cannot be read: {error!r}", remedy=_REMEDY) from None
    options: dict[str, Any] = {"base_url": address}
    if address.startswith("tcp:"):
        options["tls"] = _tls(contexts / "tls" / key / "docker", unverified=unverified)
    return Endpoint(address, where, options)


def _tls(directory: Path, *, unverified: bool) -> Any:
    """Return TLS settings with the context's files; False if it has none and requires none."""
    from docker.tls import TLSConfig

    authority, *own = (str(directory / f"{name}.pem") for name in ("ca", "cert", "key"))
    pair = all(Path(path).is_file() for path in own)
    known = Path(authority).is_file()
    if not (known or pair or unverified):
        return False
    return TLSConfig(
        client_cert=(own[0], own[1]) if pair else None,
        ca_cert=authority if known else None,
        verify=not unverified,
    )
