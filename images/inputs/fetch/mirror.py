"""The Debian mirror: URLs that are never written into a lock or an image.

A lock names an archive (`debian` or `debian-security`); its URL is the one of the option, else that
of the host's own apt sources if the host is Debian, else mmdebstrap's default.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from images.errors import ToolError, UsageError
from images.http import session
from images.inputs.lock.deb import ARCHIVES, DEBIAN, SECURITY

_INSTALL = "install it: apt-get install mmdebstrap"
_OPTIONS = re.compile(r"^deb\s+\[[^]]*\]\s+")


@dataclass(frozen=True, slots=True)
class Mirror:
    """The roots of Debian's two archives.

    Attributes:
        debian: URL of the directory that contains `dists/bookworm`, without a trailing slash.
        security: URL of the directory that contains `dists/bookworm-security`.
        chosen: whether the user named it. It may then be a snapshot of the past, so its signed
            indices may have expired.
    """

    debian: str
    security: str
    chosen: bool = False

    def root(self, archive: str) -> str:
        """Return the root URL of `debian` or `debian-security`."""
        return {DEBIAN: self.debian, SECURITY: self.security}[archive]


@dataclass(frozen=True, slots=True)
class Source:
    """A line of apt's sources: the archive's URL, a suite such as `bookworm`, a component."""

    url: str
    suite: str
    component: str


def find(setting: str | None = None) -> Mirror:
    """Return the mirror to use.

    Args:
        setting: the value of `--debian-mirror`: the URL of the `debian` archive if the other one is
            beside it, or `debian=URL,debian-security=URL`.

    Raises:
        UsageError: the setting cannot be understood.
        ToolError: there is no setting, the host is not Debian, and mmdebstrap is missing or fails.
    """
    if setting:
        return parse(setting)
    return of_sources(_host_sources(), _host_codename()) or _default()


def parse(setting: str) -> Mirror:
    """Return the mirror of a setting.

    Raises:
        UsageError: it has neither of the two forms that `find` takes.
    """
    if "=" not in setting.partition("://")[0]:
        return Mirror(setting.rstrip("/"), _beside(setting.rstrip("/")), chosen=True)
    roots = dict(part.strip().partition("=")[::2] for part in setting.split(","))
    if set(roots) != set(ARCHIVES) or not all(_is_url(url) for url in roots.values()):
        raise _misunderstood(setting)
    return Mirror(roots[DEBIAN].rstrip("/"), roots[SECURITY].rstrip("/"), chosen=True)


def of_sources(sources: Iterable[Source], codename: str) -> Mirror | None:
    """Return the mirror that apt sources of a Debian release use, or None if they have none.

    Other vendors publish under the release's name as well, so a URL whose path has a `debian`
    directory is preferred. A wrong guess does no harm: files are checked against the lock, and a
    lock is made only from signed indices.

    Args:
        sources: the lines.
        codename: the release, e.g. `bookworm`.
    """
    sources = [source for source in sources if source.component == "main"]
    debian = _best((s.url for s in sources if s.suite == codename), DEBIAN)
    security = _best((s.url for s in sources if s.suite == f"{codename}-security"), SECURITY)
    return Mirror(debian, security) if debian and security else None


def _best(urls: Iterable[str], name: str) -> str | None:
    ranked = sorted((_resolved(url) for url in urls), key=lambda url: name not in _segments(url))
    return ranked[0] if ranked and _is_url(ranked[0]) else None


def _resolved(url: str) -> str:
    """Return the first mirror of a `mirror+file:` list, which Debian's cloud images use."""
    if url.startswith("mirror+file:"):
        try:
            lines = Path(urlsplit(url).path).read_text(encoding="utf-8").split()
        except OSError:
            return ""
        url = lines[0] if lines else ""
    return url.rstrip("/")


def _beside(url: str) -> str:
    """Return the URL of the security archive: the sibling of the `debian` directory in `url`."""
    parts = urlsplit(url)
    segments = parts.path.split("/")
    if not _is_url(url) or DEBIAN not in segments:
        raise _misunderstood(url)
    last = len(segments) - 1 - segments[::-1].index(DEBIAN)
    segments[last] = SECURITY
    return parts._replace(path="/".join(segments)).geturl()


def _segments(url: str) -> list[str]:
    return urlsplit(url).path.split("/")


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _misunderstood(setting: str) -> UsageError:
    return UsageError(
        f"--debian-mirror {session.public_text(setting)}: cannot tell where the two archives are",
        remedy="use http[s]://HOST/PATH/debian (with debian-security beside it), "
        "or debian=URL,debian-security=URL",
    )


def _host_codename() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""


def _host_sources() -> list[Source]:
    """Return the host's apt sources, read by apt itself: it knows both formats of its files."""
    command = [
        "apt-get",
        "indextargets",
        "--no-release-info",
        "--format",
        "$(REPO_URI)|$(RELEASE)|$(COMPONENT)",
        "Created-By: Packages",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return []
    rows = (line.split("|") for line in done.stdout.splitlines())
    return [Source(*row) for row in rows if len(row) == 3]


def _default() -> Mirror:
    """Return the mirror that mmdebstrap uses on this host: it knows Debian's own URLs."""
    with tempfile.TemporaryDirectory(prefix="roll-images-") as temporary:
        root = Path(temporary) / "root"
        # Newer versions refuse to simulate chrootless as root, in other modes ordinary users.
        mode = "chrootless" if os.geteuid() else "root"
        command = ["mmdebstrap", "--simulate", f"--mode={mode}", "--variant=custom"]
        try:
            done = subprocess.run(
                [*command, "bookworm", str(root)],
                capture_output=True,
                text=True,
                check=False,
                umask=0o022,
            )
            text = (root / "etc/apt/sources.list").read_text(encoding="utf-8")
        except FileNotFoundError as error:
            if error.filename == "mmdebstrap":
                raise ToolError("mmdebstrap: no such program", remedy=_INSTALL) from None
            raise ToolError(
                f"mmdebstrap does not report its default mirror:\n{done.stderr[-2000:]}",
                remedy="name a mirror: --debian-mirror URL",
            ) from error
    found = of_sources(_one_line_sources(text), "bookworm")
    if found is None:
        raise ToolError(
            "mmdebstrap's default sources lack bookworm or bookworm-security",
            remedy="name a mirror: --debian-mirror URL",
        )
    return found


def _one_line_sources(text: str) -> list[Source]:
    """Return the sources of a sources.list: `deb [option=value …] URL suite component …`."""
    # mmdebstrap names Debian's keys in an option where the host's apt does not trust them: Ubuntu.
    rows = (_OPTIONS.sub("deb ", line).split() for line in text.splitlines())
    return [
        Source(row[1], row[2], component)
        for row in rows
        if len(row) > 3 and row[0] == "deb"
        for component in row[3:]
    ]
