"""Logins of package indexes, for their files: uv locates a file without the login.

Sources: the URLs in uv's environment variables and uv.toml, `UV_INDEX_<NAME>_USERNAME` and
`_PASSWORD`, and ~/.netrc. As with uv and pip, a login goes only to the origin that it was given
for. The index chooses the hosts of its files: from ~/.netrc these get only what is under their own
name, over TLS; its `default` is for the hosts of the indexes that the user has chosen.
"""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from images.http import origin, session
from images.http.origin import Origin
from images.inputs import uv_settings

_VARIABLES = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
_NAMED = re.compile(r"([A-Za-z0-9._-]+)=(?=[A-Za-z]+://)")


def with_logins(urls: Mapping[Any, str], environ: Mapping[str, str] = os.environ) -> dict[Any, str]:
    """Return URLs, with the login of the index in those that are at its origin.

    Args:
        urls: URLs, by any key.
        environ: the environment that uv runs with.
    """
    logins = dict(_logins(environ))
    return {key: _with_login(url, logins) for key, url in urls.items()}


def of_netrc(host: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the Authorization header that ~/.netrc has for a host under its own name."""
    found = _netrc(environ).get(host.strip("[]"))
    return session.basic(*found) if found else None


def _with_login(url: str, logins: Mapping[Origin, str]) -> str:
    parts = urlsplit(url)
    try:
        login = logins.get(origin.of(url))
    except ValueError:
        return url
    if login is None or "@" in parts.netloc:
        return url
    return parts._replace(netloc=f"{login}@{parts.netloc}").geturl()


def _logins(environ: Mapping[str, str]) -> Iterator[tuple[Origin, str]]:
    """Yield logins with their origin; later ones take precedence, as the environment over files."""
    for name, url in [*_in_files(environ), *_in_environment(environ)]:
        prefix = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', name.upper())}_"
        user, password = (environ.get(f"{prefix}{end}", "") for end in ("USERNAME", "PASSWORD"))
        with suppress(ValueError):
            there = origin.of(url)
            given = urlsplit(url).netloc.rpartition("@")[0]
            if name and (user or password):
                given = _quoted(user, password)
            if not given:
                entries = _netrc(environ)
                found = entries.get(there.host.strip("[]")) or entries.get("default")
                given = _quoted(*found) if found else ""
            if given:
                yield there, given


def _quoted(user: str, password: str) -> str:
    return f"{quote(user, safe='')}:{quote(password, safe='')}"


def _netrc(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return user names and passwords of ~/.netrc by host; none if it cannot be read, as in uv."""
    file = environ.get("NETRC") or Path(environ.get("HOME", "/")) / ".netrc"
    with suppress(OSError, UnicodeError, netrc.NetrcParseError):
        hosts = netrc.netrc(str(file)).hosts
        return {host: (user or "", secret or "") for host, (user, _, secret) in hosts.items()}
    return {}


def _in_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable in _VARIABLES:
        for word in environ.get(variable, "").split():
            named = _NAMED.match(word)
            yield (named[1], word[named.end() :]) if named else ("", word)


def _in_files(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for document in uv_settings.documents(environ):
        with suppress(TypeError, AttributeError, KeyError):
            yield from _indexes(document)


def _indexes(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for settings in (document, document.get("pip", {})):
        for url in (settings.get("index-url"), *settings.get("extra-index-url", ())):
            if isinstance(url, str):
                yield "", url
    for index in document.get("index", ()):
        yield str(index.get("name") or ""), str(index["url"])
