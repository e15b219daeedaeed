"""Origins: whether two URLs are of one server. The only module that compares hosts.

Specification: RFC 6454, section 4 (scheme, host and port); RFC 3986, section 6.2 (case and default
ports make no difference). A credential is for an origin, never for a name that looks alike.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

PORTS = {"http": 80, "https": 443}
_LETTERS = frozenset(string.ascii_lowercase + string.digits + "._-")


@dataclass(frozen=True, slots=True)
class Origin:
    """A server.

    Attributes:
        scheme: `http` or `https`.
        host: in lower case; an IPv6 address in brackets.
        port: its number, the scheme's default where the URL has none.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """`HOST[:PORT]`, without the scheme's default port."""
        return self.host if self.has_default_port else f"{self.host}:{self.port}"

    @property
    def has_default_port(self) -> bool:
        """Whether the port is the scheme's default."""
        return self.port == PORTS[self.scheme]

    def is_beside(self, other: Origin) -> bool:
        """Return whether the two differ in nothing but TLS.

        A registry behind a proxy that terminates TLS often names itself with http.
        """
        ports = self.port == other.port or (self.has_default_port and other.has_default_port)
        return self.host == other.host and ports


@lru_cache(maxsize=256)
def of(url: str) -> Origin:
    """Return the origin of a URL.

    Raises:
        ValueError: it is no HTTP URL.
    """
    parts = urlsplit(url)
    # A backslash ends the host for some URL parsers, and is part of a login for others.
    if parts.scheme not in PORTS or not parts.hostname or "\\" in parts.netloc:
        raise ValueError("not an HTTP URL")
    port = PORTS[parts.scheme] if parts.port is None else parts.port
    return Origin(parts.scheme, _normalized(parts.hostname, "[" in parts.netloc), port)


def of_registry(registry: str, *, plain_http: bool) -> Origin:
    """Return the origin of a registry.

    Args:
        registry: `HOST[:PORT]`.
        plain_http: whether it is used without TLS.
    """
    return of(f"{'http' if plain_http else 'https'}://{registry}")


def joined(base: str, location: str) -> str:
    """Return the URL that a Location header names, without any user name and password.

    Its host is written anew from what was compared, so that no other URL parser can find another
    host in it.

    Args:
        base: the URL of the request.
        location: the header; may be relative.

    Raises:
        ValueError: it is no HTTP URL.
    """
    parts = urlsplit(urljoin(base, location))
    return parts._replace(netloc=of(parts.geturl()).authority, fragment="").geturl()


def _normalized(host: str, bracketed: bool) -> str:
    """Return the one spelling of a host."""
    if bracketed and "%" not in host:  # a zone counts on one machine only
        import ipaddress

        return f"[{ipaddress.IPv6Address(host).compressed}]"
    if not _LETTERS.issuperset(host):
        raise ValueError("not a host name")
    return host
