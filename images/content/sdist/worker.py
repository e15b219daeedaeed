"""Builds the wheel of an sdist; run by the image's own Python in the base's root file system.

    python3.11 -s -P -B sdist_worker.py PLACE

PLACE has the source tree in `source/`, the build requirements, unpacked, in `site/`, and the table
`build-system` of pyproject.toml in `system.json`; the wheel goes to `wheel/` (PEP 517).
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Call the backend of the table; `backend-path` is where the source brings its own."""
    place = Path(sys.argv[1])
    system = json.loads((place / "system.json").read_text(encoding="utf-8"))
    own = [str(place / "source" / path) for path in system.get("backend-path", [])]
    sys.path[:0] = [*own, str(place / "site")]
    os.chdir(place / "source")
    module, _, attribute = system["build-backend"].partition(":")
    backend: Any = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        backend = getattr(backend, part)
    backend.build_wheel(str(place / "wheel"))


if __name__ == "__main__":
    main()
