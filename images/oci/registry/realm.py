"""Where a login goes that a registry wants to have at its token server: the realm of its challenge.

The registry names it, so it is looked at before anything is sent there. A server of another domain
is common (a company's single sign-on) and is reported; an address that is only of this machine or
of its network is none that a registry elsewhere has business with.
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
    """The address of a token server, as it may be asked.

    Args:
        realm: what the challenge says.
        home: the registry's origin.
        registry: the registry, for messages.

    Raises:
        RegistryError: it is no address, without TLS, or an address that it must not be.
    """
    try:
        url = redirect.resolved(realm, f"{home}/v2/", home)
    except RedirectError:
        what = f"{registry}: its token server is no address: {public_text(realm)!r}"
        if realm.lower().startswith("http:"):
            what = f"{registry}: its token server is without TLS: {public_url(realm)}"
        raise RegistryError(
            what, remedy="fix the registry's token realm, or add --plain-http where that is meant"
        ) from None
    there = origin.of(url)
    if there.host != home.host and _is_of_no_business(there.host, home.host):
        raise RegistryError(
            f"{registry}: its token server is an address of this machine or its network: {there}",
            remedy="name the registry by an address of the same kind, or fix its token realm",
        )
    return url


def is_foreign(realm: str, home: Origin) -> bool:
    """Whether a token server is of another domain than the registry."""
    return _domain(origin.of(realm).host) != _domain(home.host)


def _domain(host: str) -> str:
    """The part of a name that one owner has, by its form; an address as a whole."""
    if _address(host):
        return host
    labels = host.split(".")
    # As in example.co.uk: a list of all such suffixes would be more exact, and outdated.
    third = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3 if third else -2 :])


def _is_of_no_business(host: str, home: str) -> bool:
    """Whether it is an address that a registry with another name must not send anybody to."""
    address = _address(host)
    if address is None or address.is_global:
        return False
    local = address.is_loopback or address.is_link_local or address.is_unspecified
    return local or not _is_private(home)


def _is_private(host: str) -> bool:
    """Whether a registry is on a private network itself, as far as its name can be resolved."""
    address = _address(host)
    if address:
        return not address.is_global
    with suppress(OSError, UnicodeError):
        found = {str(item[4][0]).partition("%")[0] for item in socket.getaddrinfo(host, None)}
        return not any(ipaddress.ip_address(text).is_global for text in found)
    return False


def _address(host: str) -> _Address | None:
    """The address that a host is, in any spelling that the system's resolver takes."""
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    with suppress(ValueError):
        found = ipaddress.ip_address(host.strip("[]"))
        return getattr(found, "ipv4_mapped", None) or found
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None
