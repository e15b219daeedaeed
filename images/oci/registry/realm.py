"""Checks of a challenge's realm: the token server that a registry's login is sent to.

The registry names it, so it is checked before anything is sent there. A server of another domain
is common (a company's single sign-on) and is reported; an address of this machine or its network
is refused where the registry is elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

from images.errors import RegistryError
from images.http import origin, redirect
from images.http.origin import Origin
from images.http.redirect import RedirectError
from images.http.session import public_text, public_url

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def checked(realm: str, home: Origin, registry: str) -> str:
    """Return the URL of a token server if a login may be sent there.

    Args:
        realm: of the challenge.
        home: the registry's origin.
        registry: the registry, for messages.

    Raises:
        RegistryError: it is no HTTP URL, has no TLS, or is of this machine or its network.
    """
    try:
        url = redirect.resolved(realm, f"{home}/v2/", home)
    except RedirectError:
        fault = f"its token server is not an HTTP URL: {public_text(realm)!r}"
        if realm.lower().startswith("http:"):
            fault = f"its token server is without TLS: {public_url(realm)}"
        raise RegistryError(
            f"{registry}: {fault}",
            remedy="fix the registry's token realm, or add --plain-http if that is intended",
        ) from None
    there = origin.of(url)
    if there.host != home.host and _is_off_limits(there.host, home.host):
        raise RegistryError(
            f"{registry}: its token server is an address of this machine or its network: {there}",
            remedy="name the registry by an address of the same kind, or fix its token realm",
        )
    return url


def is_foreign(realm: str, home: Origin) -> bool:
    """Return whether a token server is of another domain than the registry."""
    return _domain(origin.of(realm).host) != _domain(home.host)


def _domain(host: str) -> str:
    """Return the registrable part of a host name, by its form; an IP address as a whole."""
    if _address(host):
        return host
    labels = host.split(".")
    # As in example.co.uk: a list of all such suffixes would be more exact, but outdated.
    third = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3 if third else -2 :])


def _is_off_limits(host: str, home: str) -> bool:
    """Return whether it is an address that a registry with another name must not refer to."""
    address = _address(host)
    if address is None or address.is_global:
        return False
    local = address.is_loopback or address.is_link_local or address.is_unspecified
    return local or not _is_private(home)


def _is_private(host: str) -> bool:
    """Return whether a registry is on a private network itself, if its name can be resolved."""
    address = _address(host)
    if address:
        return not address.is_global
    with suppress(OSError, UnicodeError):
        found = {str(item[4][0]).partition("%")[0] for item in socket.getaddrinfo(host, None)}
        return not any(ipaddress.ip_address(text).is_global for text in found)
    return False


def _address(host: str) -> _Address | None:
    """Return the IP address that a host is, in any spelling that the system's resolver accepts."""
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    with suppress(ValueError):
        found = ipaddress.ip_address(host.strip("[]"))
        return getattr(found, "ipv4_mapped", None) or found
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None
