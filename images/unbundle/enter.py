"""How an unpacked image is used: a script that runs a command in it, and other commands.

The script gives a command what a container engine would: the image's environment and no other,
/proc, /sys and /dev, the host's name resolution, and the libraries of its NVIDIA driver. All
mounts are in a mount namespace of their own and end with the command.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Sequence

from images.unbundle.document import Bundle

_SCRIPT = r"""#!/bin/sh
# Runs a command in the unpacked image @REF@ (@DIGEST@):
#   @NAME@ [COMMAND [ARGUMENT...]]     without a command, a shell
# As root or, where the kernel lets users make namespaces, as an ordinary user. The host's files
# are under /mnt in it. Other environment: @NAME@ env NAME=VALUE COMMAND.
set -eu
root=${0%.enter}
if [ "${1-}" != --inside-namespace ]; then
    [ "$(id -u)" = 0 ] && user= || user='--user --map-root-user'
    exec unshare $user --mount --propagation private -- /bin/sh "$0" --inside-namespace "$@"
fi
shift
cd "$root"
mount --rbind / mnt
mount --rbind /proc proc
mount --rbind /sys sys
mount --rbind /dev dev
for file in etc/resolv.conf etc/hosts; do
    [ -e "/$file" ] || continue
    [ -e "$file" ] || touch "$file" 2>/dev/null || continue
    mount --bind "/$file" "$file"
done
libraries=
driver='s/^[[:space:]]*lib\(cuda\|nvidia-[^ ]*\)\.so[^ ]* .*x86-64.* => //p'
found=$( (ldconfig -p || /sbin/ldconfig -p) 2>/dev/null | sed -n "$driver")
if [ -n "$found" ]; then
    # In memory, for the unpacked files are to stay as they are.
    mount -t tmpfs tmpfs run
    mkdir run/driver
    for library in $found $(command -v nvidia-smi || true); do
        inside=run/driver/${library##*/}
        [ -e "$inside" ] || { : > "$inside"; mount --bind "$(readlink -f "$library")" "$inside"; }
    done
    libraries=LD_LIBRARY_PATH=/run/driver
fi
[ "$#" -gt 0 ] || set -- @COMMAND@
# The command is looked for in the image's PATH; chroot itself is the host's.
chroot=$(command -v chroot || echo /usr/sbin/chroot)
exec env -i HOME=/root TERM="${TERM-dumb}" $libraries @ENV@ "$chroot" . "$@"
"""


def script(bundle: Bundle) -> str:
    """The text of DIR.enter."""
    env = " ".join(shlex.quote(f"{name}={value}") for name, value in bundle.env.items())
    command = " ".join(shlex.quote(word) for word in bundle.settings.get("Cmd") or ["/bin/sh"])
    words = {
        "@REF@": bundle.ref,
        "@DIGEST@": bundle.manifest_digest,
        "@NAME@": "DIR.enter",
        "@ENV@": env,
        "@COMMAND@": command,
    }
    text = _SCRIPT
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def commands(root: Path, bundle: Bundle) -> Sequence[str]:
    """Commands that use the directory, for people."""
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
    """A value as a Dockerfile's ENV takes it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
