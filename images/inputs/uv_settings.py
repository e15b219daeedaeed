"""uv's own settings, as far as they apply to the builder's downloads as well.

uv locates files, and the builder downloads them: what is set for one applies to the other. Settings
come from the environment, then from the user's uv.toml, then from the system's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from images.http import origin


@dataclass(frozen=True, slots=True)
class Network:
    """How uv reaches its indexes.

    Attributes:
        unchecked: `HOST` or `HOST:PORT`, in lower case, whose certificates are not verified.
        proxies: those of uv.toml, by scheme; those of the environment take precedence.
        direct: hosts that are reached without these proxies, as in NO_PROXY.
    """

    unchecked: frozenset[str] = frozenset()
    proxies: Mapping[str, str] = field(default_factory=dict)
    direct: str = ""

    def is_unchecked(self, url: str) -> bool:
        """Return whether the certificate of a URL's host is not verified."""
        try:
            there = origin.of(url)
        except ValueError:
            return False
        return bool({there.host, f"{there.host}:{there.port}"} & self.unchecked)


def network(environ: Mapping[str, str] = os.environ) -> Network:
    """Return the settings that are in force.

    Args:
        environ: the environment that uv runs with.
    """
    unchecked = re.split(r"[\s,]+", environ.get("UV_INSECURE_HOST", ""))
    proxies: dict[str, str] = {}
    direct = ""
    for document in documents(environ):
        with suppress(TypeError):
            unchecked += [str(host) for host in document.get("allow-insecure-host", ())]
        for scheme in ("http", "https"):
            if isinstance(proxy := document.get(f"{scheme}-proxy"), str):
                proxies[scheme] = proxy
        if listed := document.get("no-proxy"):
            direct = listed if isinstance(listed, str) else ",".join(map(str, listed))
    return Network(frozenset(_host(text) for text in unchecked if text), proxies, direct)


def documents(environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the content of each uv.toml, the system's before the user's.

    A file that cannot be read is left out: uv reports it.
    """
    import tomli

    if is_without_files(environ):
        return
    user = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config"
    files = [Path("/etc/uv/uv.toml"), Path(user) / "uv" / "uv.toml"]
    if chosen := environ.get("UV_CONFIG_FILE"):
        files = [Path(chosen)]
    for file in files:
        with suppress(OSError, ValueError):
            yield tomli.loads(file.read_text(encoding="utf-8"))


def is_without_files(environ: Mapping[str, str]) -> bool:
    """Return whether uv must read no uv.toml, by the values that it takes for true."""
    return environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "t", "yes", "y", "on")


def _host(text: str) -> str:
    """Return the `HOST[:PORT]` of a host, a host with a port, or a URL."""
    return (urlsplit(text).netloc if "://" in text else text).lower()
