"""Which certificates are trusted, for all of HTTP here: what uv trusts, and what requests is told.

Sources, of which the first one that is set counts alone: REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, a
file or a directory; SSL_CERT_FILE and SSL_CERT_DIR, as uv reads them; else Mozilla's certificates
and the machine's own, where uv takes either.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_HASHED = re.compile(r"[0-9a-f]{8}\.r?[0-9]+")
"""Names by which OpenSSL itself finds certificates in a directory."""

REMEDY = (
    "name the file with its authority's certificate in REQUESTS_CA_BUNDLE, or in SSL_CERT_FILE, "
    "which uv reads as well"
)


def context(environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """A context for clients that checks certificates and the names in them.

    Args:
        environ: the environment.

    Raises:
        OSError: a file or directory that is named cannot be read, or holds no certificate.
    """
    from urllib3.util import create_urllib3_context

    made: ssl.SSLContext = create_urllib3_context()
    for name, places in _named(environ):
        for place in places:
            _load(made, name, place)
    if not list(_named(environ)):
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        made.load_verify_locations(cafile=DEFAULT_CA_BUNDLE_PATH)
        made.load_default_certs()
    return made


def for_uv(environ: Mapping[str, str]) -> dict[str, str]:
    """What uv's environment needs besides, for it to trust what is trusted here.

    Args:
        environ: the environment.
    """
    if environ.get("SSL_CERT_FILE") or environ.get("SSL_CERT_DIR"):
        return {}
    for _, places in _named(environ):
        name = "SSL_CERT_DIR" if Path(places[0]).is_dir() else "SSL_CERT_FILE"
        return {name: places[0]}
    return {}


def unchecked() -> ssl.SSLContext:
    """A context that takes any certificate: for hosts that a person named in uv's settings."""
    from urllib3.util import create_urllib3_context

    made: ssl.SSLContext = create_urllib3_context(cert_reqs=ssl.CERT_NONE)
    return made


def identify(context: ssl.SSLContext, environ: Mapping[str, str] = os.environ) -> None:
    """Give a context the client's own certificate, if SSL_CLIENT_CERT names one as for uv.

    Raises:
        OSError: it cannot be read.
    """
    if path := environ.get("SSL_CLIENT_CERT"):
        try:
            context.load_cert_chain(path)
        except OSError as error:
            raise OSError(f"SSL_CLIENT_CERT={path}: {error.strerror or error}") from None


def _named(environ: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """The variable that counts and what it names; of SSL_CERT_FILE and SSL_CERT_DIR both."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if environ.get(name):
            yield name, [environ[name]]
            return
    if environ.get("SSL_CERT_FILE"):
        yield "SSL_CERT_FILE", [environ["SSL_CERT_FILE"]]
    if environ.get("SSL_CERT_DIR"):
        yield (
            "SSL_CERT_DIR",
            [place for place in environ["SSL_CERT_DIR"].split(os.pathsep) if place],
        )


def _load(context: ssl.SSLContext, name: str, place: str) -> None:
    path = Path(place)
    try:
        if not path.is_dir():
            context.load_verify_locations(cafile=place)
            return
        context.load_verify_locations(capath=place)
        for file in path.iterdir():
            # uv reads them whatever their names are, and passes over what is no certificate.
            if not _HASHED.fullmatch(file.name) and file.is_file():
                with suppress(OSError):
                    context.load_verify_locations(cafile=file)
    except OSError as error:
        raise OSError(f"{name}={place}: no certificates: {error.strerror or error}") from None
