"""Logins for registries, from where `docker login` puts them.

The Docker SDK reads the configuration (`$DOCKER_CONFIG/config.json` or `~/.docker/config.json`:
auths, credHelpers, credsStore) and runs the credential helpers. No secret is ever printed, nor part
of an error.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images import jsontext
from images.errors import LoginError


@dataclass(frozen=True, slots=True)
class Login:
    """What a registry is told of who pushes.

    Attributes:
        username: empty with an identity token.
        password: the password or access token.
        identity_token: an OAuth2 refresh token; empty where there is a password.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def login_for(registry: str) -> Login | None:
    """The login for a registry, `HOST[:PORT]`, if there is one.

    Raises:
        LoginError: the configuration cannot be read, or a credential helper is missing or failed.
    """
    path = _config_path()
    if path is None:
        return None
    found = _resolve(registry, path, _read(path))
    if not found:
        return None
    low = {key.lower(): value for key, value in found.items() if isinstance(value, str)}
    if token := low.get("identitytoken"):
        return Login(identity_token=token)
    if "username" in low and "password" in low:
        return Login(low["username"], low["password"])
    return None


def _config_path() -> Path | None:
    from docker.utils import config

    found = config.find_config_file()
    # The file before Docker 1.7 (.dockercfg) is of no registry that one pushes to today.
    return Path(str(found)) if str(found).endswith("config.json") else None


def _read(path: Path) -> dict[str, Any]:
    # The SDK takes a file that is not JSON for an old one, and silently finds no login in it.
    try:
        content = jsontext.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        # A JSON error tells line and column; it quotes nothing.
        raise LoginError(
            f"{path}: cannot be read: {error}", remedy="mend or remove it, then: docker login"
        ) from None
    if not isinstance(content, dict):
        raise LoginError(f"{path}: not an object", remedy="mend or remove it, then: docker login")
    return content


def _resolve(registry: str, path: Path, content: dict[str, Any]) -> dict[str, Any] | None:
    from docker import auth, errors

    helper = _helper(registry, content)
    remedy = f"docker login {registry}"
    if helper:
        remedy = f"install docker-credential-{helper} or take it out of {path}; then: {remedy}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a helper that is missing is told by our own error
            config = auth.load_config(config_dict=content)
            found: dict[str, Any] | None = auth.resolve_authconfig(config, registry)
    except errors.DockerException:
        # Not chained, and without the SDK's words: a helper's output could hold anything.
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
