"""DIR.enter, a script that runs a command in an unpacked image; and other commands for its use.

The script (enter_script.py) provides what a container engine would. The image's tests use it, too:
nothing else defines the environment of an unpacked image.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Mapping, Sequence

from images.unbundle.destinations.enter_script import SCRIPT
from images.unbundle.document import Bundle

_WORD = re.compile(r"@[A-Z]+@")
_OWN = ("PATH", "LD_LIBRARY_PATH")
"""Variables to which the script adds the driver's directories."""

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def script(
    ref: str, digest: str, env: Mapping[str, str], command: Sequence[str] = ("/bin/sh",)
) -> str:
    """Return the text of DIR.enter.

    Args:
        ref: the image's name.
        digest: of its manifest.
        env: its environment.
        command: the default command.
    """
    rest = [f"{name}={value}" for name, value in env.items() if name not in _OWN]
    words = {
        "@REF@": ref,
        "@DIGEST@": digest,
        "@PATH@": shlex.quote(env.get("PATH", _DEFAULT_PATH)),
        "@LIBRARIES@": shlex.quote(env.get("LD_LIBRARY_PATH", "")),
        "@ENV@": shlex.join(rest),
        "@COMMAND@": shlex.join(command),
    }
    # All in one pass: a value may contain text that looks like another word.
    return _WORD.sub(lambda found: words[found.group()], SCRIPT)


def of_bundle(bundle: Bundle) -> str:
    """Return the text of DIR.enter for a bundle's image."""
    command = bundle.settings.get("Cmd") or ["/bin/sh"]
    return script(bundle.ref, bundle.manifest_digest, bundle.env, command)


def commands(root: Path, bundle: Bundle) -> Sequence[str]:
    """Return commands that use the directory, for people."""
    quoted = shlex.quote(str(root))
    env = " ".join(
        f"--change {shlex.quote(f'ENV {name}={_docker(value)}')}"
        for name, value in bundle.env.items()
    )
    return (
        f"{quoted}.enter python -c 'import sglang'"
        "  # as root or an ordinary user: private mounts, the host's NVIDIA driver, chroot",
        f"tar -C {quoted} -c . | docker import {env} - roll-sglang:{bundle.ref}",
    )


def _docker(value: str) -> str:
    """Quote a value for ENV of a Dockerfile."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
