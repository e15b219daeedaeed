"""uv's own settings, as far as the builder's downloads have to go by them as well.

uv resolves, and the files that it finds are fetched here: what is set for the one counts for the
other. Settings come from the environment, then from the user's uv.toml, then from the system's.
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
        unchecked: `HOST` or `HOST:PORT`, in lower case, whose certificates nobody looks at.
        proxies: of uv.toml, by scheme; those of the environment go before them.
        direct: hosts to be reached without these proxies, as in NO_PROXY.
    """

    unchecked: frozenset[str] = frozenset()
    proxies: Mapping[str, str] = field(default_factory=dict)
    direct: str = ""

    def is_unchecked(self, url: str) -> bool:
        """Whether an address is of a host whose certificate is not looked at."""
        try:
            there = origin.of(url)
        except ValueError:
            return False
        return bool({there.host, f"{there.host}:{there.port}"} & self.unchecked)


def network(environ: Mapping[str, str] = os.environ) -> Network:
    """The settings that are in force.

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
    """What uv.toml says, the system's before the user's; one that cannot be read is uv's affair."""
    import tomli

    if is_without_files(environ):
        return
    own = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config"
    files = [Path("/etc/uv/uv.toml"), Path(own) / "uv" / "uv.toml"]
    if chosen := environ.get("UV_CONFIG_FILE"):
        files = [Path(chosen)]
    for file in files:
        with suppress(OSError, ValueError):
            yield tomli.loads(file.read_text(encoding="utf-8"))


def is_without_files(environ: Mapping[str, str]) -> bool:
    """Whether uv is to read no uv.toml, in the words that it takes for yes."""
    return environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "t", "yes", "y", "on")


def _host(text: str) -> str:
    """`HOST[:PORT]` of a host, a host with a port, or an address."""
    return (urlsplit(text).netloc if "://" in text else text).lower()
