"""Where an answer sends a request on: the one place that follows redirects, for all of HTTP here.

Specification: RFC 9110, section 15.4. An address in a Location is one that somebody else chose:

- A credential goes to the origin that was asked, and after another one has been asked to nobody.
- Nothing that was asked with TLS goes on without it. What a server says of itself with http is
  read as https: a proxy before it ends TLS, and it does not know.
- A method stays what it was: a 301, 302 or 303 that answers a POST would make a GET of it, and is
  left to the caller.
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

MOST = 10
"""Redirects of one request: as Go's client, which most registries are tried with."""

_ANY = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_NO_HEAD = frozenset({400, 401, 403, 405, 501})
"""What a storage says to HEAD whose signed address is for GET alone."""


class RedirectError(Exception):
    """A redirect that is not followed; the text is one line, fit to be shown."""


def is_redirect(status: int) -> bool:
    """Whether an answer sends the request on."""
    return status in _ANY


def follow(
    send: Send, method: str, url: str, *, lax: Callable[[str], bool] = lambda _: False
) -> requests.Response:
    """Make a request, and make it again where the answer says so.

    Args:
        send: makes it once: to an address, and whether the credential may go there.
        method: of HTTP.
        url: where to first.
        lax: whether an address may be asked without TLS although the first one had it.

    Returns:
        The first answer that is none of a redirect. Where what HEAD was sent on to takes no HEAD:
        the redirect, which says that there is something.

    Raises:
        RedirectError: it is not followed.
    """
    home, ours = origin.of(url), True
    answer = send(url, ours)
    for _ in range(MOST):
        following = _following(answer, method, url, home, lax)
        if following is None:
            return answer
        before, url = answer, following
        before.close()
        ours = ours and origin.of(url) == home
        answer = send(url, ours)
        if method == "HEAD" and answer.status_code in _NO_HEAD:
            return before
    if _following(answer, method, url, home, lax) is None:
        return answer
    raise RedirectError(f"it redirects more than {MOST} times, at last to {public_url(url)}")


def _following(
    answer: requests.Response, method: str, url: str, home: Origin, lax: Callable[[str], bool]
) -> str | None:
    """The address of the next request, if there is one to be made."""
    location = answer.headers.get("Location")
    followed = _ANY if method in ("GET", "HEAD") else _SAME_METHOD
    if answer.status_code not in followed or not location:
        return None
    return resolved(location, url, home, lax)


def resolved(
    location: str, base: str, home: Origin, lax: Callable[[str], bool] = lambda _: False
) -> str:
    """The address that a Location header names, as it may be asked.

    Args:
        location: the header.
        base: the address that gave it.
        home: the origin that was asked first.
        lax: as in `follow`.

    Raises:
        RedirectError: it is none, or it would be asked without TLS.
    """
    try:
        url = origin.joined(base, location)
    except ValueError:
        raise RedirectError(f"it redirects to {public_text(location)!r}, no address") from None
    there = origin.of(url)
    if home.scheme == "https" and there.scheme == "http":
        if there.is_beside(home):
            return f"{home}{url.removeprefix(str(there))}"
        if not lax(url):
            raise RedirectError(f"it redirects to {public_url(url)}, without TLS")
    return url
