"""Trusted certificates: the same for our HTTP requests and for uv's.

Sources, of which only the first one that is set counts: REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, a
file or a directory; SSL_CERT_FILE and SSL_CERT_DIR, as uv reads them; else Mozilla's certificates
and the machine's own, of which uv uses either.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_HASHED = re.compile(r"[0-9a-f]{8}\.r?[0-9]+")
"""File names by which OpenSSL itself finds certificates in a directory."""

REMEDY = (
    "name the file with its authority's certificate in REQUESTS_CA_BUNDLE, or in SSL_CERT_FILE, "
    "which uv reads as well"
)


def context(environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Return a context for clients that checks certificates and the names in them.

    Args:
        environ: the environment.

    Raises:
        OSError: a file or directory that is named cannot be read, or contains no certificate.
    """
    from urllib3.util import create_urllib3_context

    made: ssl.SSLContext = create_urllib3_context()
    for name, paths in _named(environ):
        for path in paths:
            _load(made, name, path)
    if not list(_named(environ)):
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        made.load_verify_locations(cafile=DEFAULT_CA_BUNDLE_PATH)
        made.load_default_certs()
    return made


def for_uv(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that uv's environment lacks to trust the same certificates.

    Args:
        environ: the environment.
    """
    if environ.get("SSL_CERT_FILE") or environ.get("SSL_CERT_DIR"):
        return {}
    for _, paths in _named(environ):
        name = "SSL_CERT_DIR" if Path(paths[0]).is_dir() else "SSL_CERT_FILE"
        return {name: paths[0]}
    return {}


def unchecked() -> ssl.SSLContext:
    """Return a context that accepts any certificate: for hosts that uv's settings name so."""
    from urllib3.util import create_urllib3_context

    made: ssl.SSLContext = create_urllib3_context(cert_reqs=ssl.CERT_NONE)
    return made


def identify(context: ssl.SSLContext, environ: Mapping[str, str] = os.environ) -> None:
    """Load the client's own certificate into a context, if SSL_CLIENT_CERT names one as for uv.

    Raises:
        OSError: it cannot be read.
    """
    if path := environ.get("SSL_CLIENT_CERT"):
        try:
            context.load_cert_chain(path)
        except OSError as error:
            raise OSError(f"SSL_CLIENT_CERT={path}: {error.strerror or error}") from None


def _named(environ: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the variable that counts and the paths in it; SSL_CERT_FILE and SSL_CERT_DIR both."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if environ.get(name):
            yield name, [environ[name]]
            return
    if environ.get("SSL_CERT_FILE"):
        yield "SSL_CERT_FILE", [environ["SSL_CERT_FILE"]]
    if environ.get("SSL_CERT_DIR"):
        yield (
            "SSL_CERT_DIR",
            [path for path in environ["SSL_CERT_DIR"].split(os.pathsep) if path],
        )


def _load(context: ssl.SSLContext, name: str, given: str) -> None:
    path = Path(given)
    try:
        if not path.is_dir():
            context.load_verify_locations(cafile=given)
            return
        context.load_verify_locations(capath=given)
        for file in path.iterdir():
            # uv reads them whatever their names are, and skips files that are no certificates.
            if not _HASHED.fullmatch(file.name) and file.is_file():
                with suppress(OSError):
                    context.load_verify_locations(cafile=file)
    except OSError as error:
        raise OSError(f"{name}={given}: no certificates: {error.strerror or error}") from None
