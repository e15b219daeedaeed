"""What every HTTP client here shares: the session's TLS settings, and addresses fit to be shown."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    import requests

_CONNECTIONS = 32  # kept open to one host


def session() -> requests.Session:
    """A session that checks certificates; the CA bundle comes from the environment."""
    import requests
    from requests.adapters import HTTPAdapter

    made = requests.Session()
    for scheme in ("https://", "http://"):
        made.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    # uv and curl honour SSL_CERT_FILE where requests does not: one setting must do for all.
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle and not {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & os.environ.keys():
        made.verify = bundle
    return made


def public_url(url: str) -> str:
    """The URL without user name, password and query, fit to be shown."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))


def public_text(text: str) -> str:
    """A message without the credentials that the addresses in it may hold."""
    return re.sub(r"\?[^\s'\"()]+", "", re.sub(r"//[^/\s'\"]*@", "//", text))
