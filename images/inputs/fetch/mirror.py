"""Where Debian packages come from: an address that is never written into a lock or an image.

A lock names an archive (`debian` or `debian-security`); this module says where that archive is
today. The answer comes from the setting, else from the host's own apt sources when the host is
Debian, else from mmdebstrap's defaults.
"""

from __future__ import annotations

import os
import platform
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


@dataclass(frozen=True, slots=True)
class Mirror:
    """The roots of Debian's two archives.

    Attributes:
        debian: URL of the directory that holds `dists/bookworm`, without a trailing slash.
        security: URL of the directory that holds `dists/bookworm-security`.
        chosen: a person named it. It may then be a snapshot of the past, so the dates in its
            signed indices are not held against it.
    """

    debian: str
    security: str
    chosen: bool = False

    def root(self, archive: str) -> str:
        """The root URL of `debian` or `debian-security`."""
        return {DEBIAN: self.debian, SECURITY: self.security}[archive]


@dataclass(frozen=True, slots=True)
class Source:
    """One line of apt's sources: the archive's URL, a suite such as `bookworm`, a component."""

    url: str
    suite: str
    component: str


def find(setting: str | None = None) -> Mirror:
    """The mirror to use.

    Args:
        setting: what a person asked for (`--debian-mirror`): the URL of the `debian` archive when
            the other one lies beside it, or `debian=URL,debian-security=URL`.

    Raises:
        UsageError: the setting cannot be understood.
        ToolError: there is no setting, the host is not Debian, and mmdebstrap is missing or fails.
    """
    if setting:
        return parse(setting)
    return of_sources(_host_sources(), _host_codename()) or _default()


def parse(setting: str) -> Mirror:
    """A mirror from a person's setting.

    Raises:
        UsageError: it is neither of the two forms that `find` tells of.
    """
    if "=" not in setting.partition("://")[0]:
        return Mirror(setting.rstrip("/"), _beside(setting.rstrip("/")), chosen=True)
    roots = dict(part.strip().partition("=")[::2] for part in setting.split(","))
    if set(roots) != set(ARCHIVES) or not all(_is_url(url) for url in roots.values()):
        raise _misunderstood(setting)
    return Mirror(roots[DEBIAN].rstrip("/"), roots[SECURITY].rstrip("/"), chosen=True)


def of_sources(sources: Iterable[Source], codename: str) -> Mirror | None:
    """The mirror that apt sources of Debian's release `codename` use; None if they have none.

    Other vendors publish under the release's name as well, so a URL whose path has a `debian`
    directory goes before one that has not. A wrong guess cannot do harm: what arrives is checked
    against the lock, and a lock is made only from signed indices.
    """
    sources = [source for source in sources if source.component == "main"]
    debian = _best((s.url for s in sources if s.suite == codename), DEBIAN)
    security = _best((s.url for s in sources if s.suite == f"{codename}-security"), SECURITY)
    return Mirror(debian, security) if debian and security else None


def _best(urls: Iterable[str], name: str) -> str | None:
    ranked = sorted((_resolved(url) for url in urls), key=lambda url: name not in _segments(url))
    return ranked[0] if ranked and _is_url(ranked[0]) else None


def _resolved(url: str) -> str:
    """A `mirror+file:` list, as Debian's cloud images have it, by the first mirror in it."""
    if url.startswith("mirror+file:"):
        try:
            lines = Path(urlsplit(url).path).read_text(encoding="utf-8").split()
        except OSError:
            return ""
        url = lines[0] if lines else ""
    return url.rstrip("/")


def _beside(url: str) -> str:
    """The security archive next to the archive at `url`: its `debian` directory's sibling."""
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
        remedy="give http[s]://HOST/PATH/debian (with debian-security beside it), "
        "or debian=URL,debian-security=URL",
    )


def _host_codename() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""


def _host_sources() -> list[Source]:
    """The host's apt sources, read by apt itself: both file formats, whether updated or not."""
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
    """What mmdebstrap would use on this host: it knows Debian's own addresses, we do not."""
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
                f"mmdebstrap cannot tell its default mirror:\n{done.stderr[-2000:]}",
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
    rows = (line.split() for line in text.splitlines())
    return [
        Source(row[1], row[2], component)
        for row in rows
        if len(row) > 3 and row[0] == "deb"
        for component in row[3:]
    ]
