"""Logins for registries, from the configuration that `docker login` writes.

The Docker SDK reads the configuration (`$DOCKER_CONFIG/config.json` or `~/.docker/config.json`:
auths, credHelpers, credsStore) and runs the credential helpers. No secret is ever printed or part
of an error.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images.errors import LoginError
from images.http import origin
from images.http.origin import Origin
from images.util import untrusted_json

_HUB = {"index.docker.io": "docker.io"}


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials for a registry.

    Attributes:
        username: empty with an identity token.
        password: the password or access token.
        identity_token: an OAuth2 refresh token; empty where there is a password.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def login_for(registry: str, name: str = "", *, plain_http: bool = False) -> Login | None:
    """Return the login for a registry, if there is one.

    Args:
        registry: `HOST[:PORT]`; an entry counts for the same server in any spelling.
        name: the repository's name: an entry may be for the repositories below a path only.
        plain_http: whether the registry is used without TLS.

    Raises:
        LoginError: the configuration cannot be read, or a credential helper is missing or failed.
    """
    path = _config_path()
    if path is None:
        return None
    content = _read(path)
    entry = _entry(content.get("auths"), origin.of_registry(registry, plain_http=plain_http), name)
    spelled = _spelled(registry, content, plain_http)
    found = next(filter(None, (_resolve(item, path, content, entry) for item in spelled)), None)
    if not found:
        return None
    low = {key.lower(): value for key, value in found.items() if isinstance(value, str)}
    token, user, password = (low.get(k, "") for k in ("identitytoken", "username", "password"))
    if token and isinstance(entry, dict):  # the SDK drops user name and password beside a token
        user, password = _pair(entry)
    whole = "username" in low and "password" in low
    return Login(user, password, token) if token or whole else None


def _entry(auths: Any, home: Origin, name: str) -> Any:
    """Return the entry of `auths` for a repository: the one of the longest path above it."""
    if not isinstance(auths, dict):
        return auths or None
    found: dict[str, Any] = {}
    for key, entry in auths.items():
        host, _, path = re.sub("^https?://", "", key).partition("/")
        path = path.strip("/")
        path = "" if path in ("v1", "v2") else path
        if _is(host, home) and f"{name}/".startswith(f"{path}/" if path else ""):
            found.setdefault(path, entry)
    return found[max(found, key=len)] if found else None


def _is(host: str, home: Origin) -> bool:
    """Return whether a host of the configuration is that registry."""
    try:
        there = origin.of_registry(_HUB.get(host, host), plain_http=home.scheme == "http")
    except ValueError:
        return False
    return there == home


def _spelled(registry: str, content: dict[str, Any], plain_http: bool) -> list[str]:
    """Return the names by which a credential helper may know a registry."""
    home = origin.of_registry(registry, plain_http=plain_http)
    helpers = content.get("credHelpers")
    named = [key for key in helpers if _is(key, home)] if isinstance(helpers, dict) else []
    return list(dict.fromkeys([registry, *named, home.authority]))


def _pair(entry: dict[str, Any]) -> tuple[str, str]:
    """Return user name and password of an entry."""
    from docker import auth

    try:
        user, password = auth.decode_auth(entry.get("auth") or "Og==")
    except (ValueError, TypeError, AttributeError):
        return "", ""
    return str(user), str(password)


def _config_path() -> Path | None:
    from docker.utils import config

    found = config.find_config_file()
    # The file of Docker before 1.7 (.dockercfg) is of no registry of today.
    return Path(str(found)) if str(found).endswith("config.json") else None


def _read(path: Path) -> dict[str, Any]:
    # The SDK takes a file that is not JSON for an old one, and silently finds no login in it.
    try:
        content = untrusted_json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        # A JSON error has line and column; it quotes nothing.
        raise LoginError(
            f"{path}: cannot be read: {error}", remedy="fix or remove it, then: docker login"
        ) from None
    if not isinstance(content, dict):
        raise LoginError(f"{path}: not an object", remedy="fix or remove it, then: docker login")
    return content


def _resolve(
    registry: str, path: Path, content: dict[str, Any], entry: Any
) -> dict[str, Any] | None:
    from docker import auth, errors

    helper = _helper(registry, content)
    if entry is None and not helper:
        return None
    remedy = f"docker login {registry}"
    chosen = {"auths": {registry: entry} if entry is not None else {}}
    if helper:
        remedy = f"install docker-credential-{helper} or remove it from {path}; then: {remedy}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a missing helper is reported by our own error
            config = auth.load_config(config_dict={**content, **chosen})
            found: dict[str, Any] | None = auth.resolve_authconfig(config, registry)
    except errors.DockerException:
        # Not chained, and without the SDK's text: a helper's output could contain a secret.
        who = f"the credential helper docker-credential-{helper}" if helper else "its content"
        raise LoginError(f"{path}: no login for {registry}: {who} fails", remedy=remedy) from None
    except (ValueError, TypeError, AttributeError, KeyError):
        raise LoginError(
            f"{path}: no login for {registry}: an entry is malformed", remedy=remedy
        ) from None
    return found


def _helper(registry: str, content: dict[str, Any]) -> str:
    helpers = content.get("credHelpers")
    own = helpers.get(registry) if isinstance(helpers, dict) else None
    return str(own or content.get("credsStore") or "")
