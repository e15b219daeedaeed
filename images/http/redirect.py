"""Redirects: the only module that follows them, for all HTTP requests.

Specification: RFC 9110, section 15.4. The URL in a Location header is chosen by somebody else:

- A credential is sent to the first origin only, and to none after another origin was in between.
- A request with TLS is not redirected to a URL without. A server that names itself with http is
  read as https: a proxy before it terminates TLS, and the server does not know.
- The method never changes: a 301, 302 or 303 to a POST would turn it into a GET, and is returned
  to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from images.http import origin
from images.http.origin import Origin
from images.http.session import public_text, public_url

if TYPE_CHECKING:
    import requests

    Send = Callable[[str, bool], requests.Response]

MAX_REDIRECTS = 10
"""As Go's client has it, which most registries are tested with."""

_ANY = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_NO_HEAD = frozenset({400, 401, 403, 405, 501})
"""Returned to HEAD by a storage whose signed URLs are for GET only."""


class RedirectError(Exception):
    """A redirect that is not followed; the text is one line, safe to print."""


def is_redirect(status: int) -> bool:
    """Return whether a status is that of a redirect."""
    return status in _ANY


def follow(
    send: Send, method: str, url: str, *, lax: Callable[[str], bool] = lambda _: False
) -> requests.Response:
    """Make a request, and follow its redirects.

    Args:
        send: makes one request: to a URL, and whether the credential may be sent there.
        method: the HTTP method.
        url: the first URL.
        lax: returns whether a URL may be without TLS although the first one had it.

    Returns:
        The first response that is no redirect. If the last server accepts no HEAD: the redirect to
        it, which proves that there is something.

    Raises:
        RedirectError: a redirect is not followed.
    """
    home, trusted = origin.of(url), True
    answer = send(url, trusted)
    for _ in range(MAX_REDIRECTS):
        target = _target(answer, method, url, home, lax)
        if target is None:
            return answer
        before, url = answer, target
        before.close()
        trusted = trusted and origin.of(url) == home
        answer = send(url, trusted)
        if method == "HEAD" and answer.status_code in _NO_HEAD:
            return before
    if _target(answer, method, url, home, lax) is None:
        return answer
    raise RedirectError(
        f"it redirects more than {MAX_REDIRECTS} times, at last to {public_url(url)}"
    )


def _target(
    answer: requests.Response, method: str, url: str, home: Origin, lax: Callable[[str], bool]
) -> str | None:
    """Return the URL of the next request, or None if the response is the last one."""
    location = answer.headers.get("Location")
    followed = _ANY if method in ("GET", "HEAD") else _SAME_METHOD
    if answer.status_code not in followed or not location:
        return None
    return resolved(location, url, home, lax)


def resolved(
    location: str, base: str, home: Origin, lax: Callable[[str], bool] = lambda _: False
) -> str:
    """Return the URL that a Location header names, after the rules of this module.

    Args:
        location: the header.
        base: the URL of the request.
        home: the origin of the first request.
        lax: as in `follow`.

    Raises:
        RedirectError: it is no HTTP URL, or has no TLS.
    """
    try:
        url = origin.joined(base, location)
    except ValueError:
        raise RedirectError(
            f"it redirects to {public_text(location)!r}, which is no HTTP URL"
        ) from None
    there = origin.of(url)
    if home.scheme == "https" and there.scheme == "http":
        if there.is_beside(home):
            return f"{home}{url.removeprefix(str(there))}"
        if not lax(url):
            raise RedirectError(f"it redirects to {public_url(url)}, without TLS")
    return url
