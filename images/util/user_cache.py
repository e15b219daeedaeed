"""The directory of the download cache that a user has without naming one."""

from __future__ import annotations

import os
from pathlib import Path


def directory() -> Path:
    """Return `$ROLL_IMAGES_CACHE`, or `~/.cache/roll-images`."""
    if given := os.environ.get("ROLL_IMAGES_CACHE"):
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in passwd; a failed write names the option
        home = Path("/nonexistent")
    return home / ".cache" / "roll-images"
