"""The login of a package index, for its files: uv keeps it to itself when it tells where they are.

Sources: the addresses in uv's environment variables and uv.toml, and `UV_INDEX_<NAME>_USERNAME` and
`_PASSWORD`. ~/.netrc needs nothing here: requests reads it. A login goes to the very scheme, host
and port that it was given for, as uv and pip have it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

_VARIABLES = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
_NAMED = re.compile(r"([A-Za-z0-9._-]+)=(?=[A-Za-z]+://)")

Realm = tuple[str, str]


def with_logins(urls: Mapping[Any, str], environ: Mapping[str, str] = os.environ) -> dict[Any, str]:
    """The same addresses; those of an index with a login get it.

    Args:
        urls: addresses by anything.
        environ: the environment that uv runs with.
    """
    logins = dict(_logins(environ))
    return {key: _with_login(url, logins) for key, url in urls.items()}


def _with_login(url: str, logins: Mapping[Realm, str]) -> str:
    parts = urlsplit(url)
    login = logins.get((parts.scheme, parts.netloc.lower()))
    if login is None or "@" in parts.netloc:
        return url
    return parts._replace(netloc=f"{login}@{parts.netloc}").geturl()


def _logins(environ: Mapping[str, str]) -> Iterator[tuple[Realm, str]]:
    """The logins by where they hold; what comes later counts more, as environment before file."""
    for name, url in [*_in_files(environ), *_in_environment(environ)]:
        parts = urlsplit(url)
        given, _, host = parts.netloc.rpartition("@")
        prefix = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', name.upper())}_"
        user, password = (environ.get(f"{prefix}{end}", "") for end in ("USERNAME", "PASSWORD"))
        if name and (user or password):
            given = f"{quote(user, safe='')}:{quote(password, safe='')}"
        if given:
            yield (parts.scheme, host.lower()), given


def _in_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable in _VARIABLES:
        for word in environ.get(variable, "").split():
            named = _NAMED.match(word)
            yield (named[1], word[named.end() :]) if named else ("", word)


def _in_files(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The indexes of uv.toml, the system's before the user's; one that cannot be read is uv's."""
    import tomli

    if environ.get("UV_NO_CONFIG", "").lower() in ("1", "true"):
        return
    own = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config"
    files = [Path("/etc/uv/uv.toml"), Path(own) / "uv" / "uv.toml"]
    if chosen := environ.get("UV_CONFIG_FILE"):
        files = [Path(chosen)]
    for file in files:
        with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
            yield from _indexes(tomli.loads(file.read_text(encoding="utf-8")))


def _indexes(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for settings in (document, document.get("pip", {})):
        for url in (settings.get("index-url"), *settings.get("extra-index-url", ())):
            if isinstance(url, str):
                yield "", url
    for index in document.get("index", ()):
        yield str(index.get("name") or ""), str(index["url"])
