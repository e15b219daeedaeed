"""Explanation of failed connections: a reason, whether to retry, and a remedy."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from images.http import certificates, session

_VARIABLES = "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"
_LOGIN_OF_PROXY = "write it into the proxy's address, http://USER:PASSWORD@HOST:PORT"
_REMEDY_OF_PROXY = "set another one, or name the host in NO_PROXY if it needs none"


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a request had no response.

    Attributes:
        reason: one line, without credentials; it names the proxy if there was one.
        final: whether another attempt would fail as well.
        remedy: what the user can do about it, if known.
    """

    reason: str
    final: bool
    remedy: str | None = None


def explained(error: BaseException, url: str, proxies: Mapping[str, str] | None = None) -> Failure:
    """Explain an exception of requests or urllib3.

    Args:
        error: the exception.
        url: the URL of the request.
        proxies: proxies by scheme, in addition to those of the environment.
    """
    from requests import exceptions

    proxy = _proxy_of(url, proxies or {})
    reason = innermost(error)
    # Neither requests nor http.client has a class for a missing SOCKS library or a proxy's 407.
    if isinstance(error, exceptions.InvalidSchema) and "SOCKS" in reason:
        return Failure(f"{reason[:200]} ({proxy})", True, "pip install 'requests[socks]'")
    if isinstance(error, ValueError):  # as all of requests' errors about URLs are
        return Failure(reason, True)
    if _is_untrusted(error):
        return Failure(f"its certificate is not trusted: {reason}", True, certificates.REMEDY)
    if proxy and "407" in reason:
        return Failure(f"{proxy} wants a login: {reason}", True, _LOGIN_OF_PROXY)
    if proxy and isinstance(error, exceptions.ProxyError):
        return Failure(f"{proxy} cannot be reached: {reason}", False, _REMEDY_OF_PROXY)
    return Failure(f"{reason} (through {proxy})" if proxy else reason, False)


def wants_login(url: str, proxies: Mapping[str, str] | None = None) -> Failure:
    """Return the failure for a 407, which only a proxy returns."""
    proxy = _proxy_of(url, proxies or {}) or "a proxy"
    return Failure(f"{proxy} wants a login: HTTP 407", True, _LOGIN_OF_PROXY)


def _is_untrusted(error: BaseException) -> bool:
    """Return whether the server's certificate is not trusted."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def is_tls(error: BaseException) -> bool:
    """Return whether TLS itself failed, rather than the connection below it."""
    return any(
        isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError)
        for cause in _causes(error)
    )


def innermost(error: BaseException) -> str:
    """Return the innermost cause in one line: the outer ones quote whole URLs."""
    cause = list(_causes(error))[-1]
    return " ".join(session.public_text(str(cause) or type(cause).__name__).split())


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, outermost first; urllib3 hides causes in arguments."""
    yield error
    inner = [item for item in error.args if isinstance(item, BaseException)]
    following = getattr(error, "reason", None) or error.__cause__ or error.__context__
    for cause in inner or ([following] if isinstance(following, BaseException) else []):
        yield from _causes(cause)


def _proxy_of(url: str, proxies: Mapping[str, str]) -> str | None:
    """Name the proxy for a URL and the setting that names it: `the proxy X (HTTPS_PROXY)`."""
    from requests import utils

    theirs = utils.get_environ_proxies(url, no_proxy=None)
    found = utils.select_proxy(url, {**proxies, **theirs})
    if found is None:
        return None
    names = [
        name for name in os.environ if name.upper() in _VARIABLES and os.environ[name] == found
    ]
    named = sorted(names)[0] if names else "uv.toml"
    return f"the proxy {session.public_url(found)} ({named})"
