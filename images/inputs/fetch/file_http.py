"""Requests for files of the package index and of the Debian mirror, with uv's settings.

A login goes to the index that it was given for, and one of ~/.netrc to the host that is named
there, since an index may name any host for its files. A redirect's destination gets no login.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from images.http import certificates, origin, redirect, session, transport_errors
from images.http.redirect import RedirectError
from images.http.retry import RETRYABLE_STATUSES, FinalError, TransientError, retry_after
from images.http.session import Header, public_url, succeeded
from images.http.transport_errors import Failure
from images.inputs import uv_settings
from images.inputs.fetch import index_login

if TYPE_CHECKING:
    import requests

_TIMEOUT = (15.0, 60.0)  # seconds to connect, and between two reads
_LOGIN = (
    "put the login into the index's URL, into UV_INDEX_<NAME>_USERNAME and _PASSWORD, or into "
    "~/.netrc: only uv can read its keyring and the logins of `uv auth login`"
)
_NO_TLS = "use an http URL for the index, or name that host in UV_INSECURE_HOST, if intended"


class FileClient:
    """An HTTP client for locked files, shared by all threads of a build."""

    def __init__(self) -> None:
        self._answered: set[origin.Origin] = set()
        self._network = uv_settings.network()
        checked, unchecked = cache(_checked), cache(certificates.unchecked)
        self._session = session.session(
            lambda url: unchecked() if self._network.is_unchecked(url) else checked()
        )
        if self._network.unchecked:
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def has_answered(self, url: str) -> bool:
        """Return whether the server of a URL has answered yet; if not, it is probably misspelt."""
        return origin.of(url) in self._answered

    @contextmanager
    def get(self, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """Send one request; the body is read inside the context.

        Args:
            url: of the file; may contain a login.
            headers: of the request.

        Raises:
            TransientError: another attempt may succeed, also while the body is read.
            FinalError: none will.
        """
        import requests
        import urllib3

        bare, login = self._login(url)
        try:
            response = redirect.follow(
                lambda where, ours: self._send(where, login if ours else None, headers),
                "GET",
                bare,
                lax=self._network.is_unchecked,
            )
            with response:
                _check(response, bare, self._proxies(bare))
                yield response
        except RedirectError as error:
            raise FinalError(f"{public_url(bare)}: {error}", _NO_TLS) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failure = transport_errors.explained(error, bare, self._proxies(bare))
            raise _raised(failure, bare) from None

    def _login(self, url: str) -> tuple[str, str | None]:
        """Return the URL without its login, and the Authorization header for its origin."""
        try:
            there = origin.of(url)
        except ValueError:
            raise FinalError(f"{public_url(url)}: not an HTTP URL") from None
        bare, login = session.without_login(url)
        if login is None and there.scheme == "https":
            login = index_login.of_netrc(there.host)
        return bare, login

    def _send(self, url: str, login: str | None, headers: dict[str, str]) -> requests.Response:
        import requests

        try:
            response = self._session.get(
                url,
                headers=headers,
                auth=Header(login),
                timeout=_TIMEOUT,
                allow_redirects=False,
                stream=True,
                proxies=self._proxies(url),
            )
        except requests.RequestException:
            raise
        except OSError as error:  # a missing file of certificates
            raise FinalError(str(error)) from error
        self._answered.add(origin.of(url))
        return response

    def _proxies(self, url: str) -> dict[str, str]:
        """Return the proxies of the environment, and for schemes without one those of uv.toml."""
        from requests import utils

        own = self._network.proxies
        if not own or utils.should_bypass_proxies(url, self._network.direct or None):
            return {}
        return {**own, **utils.get_environ_proxies(url)}


def _checked() -> ssl.SSLContext:
    made = certificates.context()
    certificates.identify(made)
    return made


def _check(response: requests.Response, url: str, proxies: Mapping[str, str]) -> None:
    """Raise an error if the response is not the file."""
    status = f"HTTP {response.status_code} from {public_url(response.url)}"
    if response.status_code in RETRYABLE_STATUSES:
        raise TransientError(status, retry_after(response.headers.get("Retry-After")))
    if response.status_code == 407:
        raise _raised(transport_errors.wants_login(url, proxies), url)
    if not succeeded(response):
        raise FinalError(status, _LOGIN if response.status_code in (401, 403) else None)


def _raised(failure: Failure, url: str) -> Exception:
    reason = f"{public_url(url)}: {failure.reason}"
    return FinalError(reason, failure.remedy) if failure.final else TransientError(reason)
