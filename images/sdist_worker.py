"""Builds the wheel of an sdist; run by the image's own Python in the base's root file system.

    python3.11 -s -P -B sdist_worker.py PLACE

PLACE has the source tree in `source/` and the build requirements, unpacked, in `site/`; the wheel
goes to `wheel/` (PEP 517, `build_wheel`).
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Call the backend that pyproject.toml names; setuptools' where it names none."""
    place = Path(sys.argv[1])
    sys.path[:0] = [str(place / "site")]
    os.chdir(place / "source")
    module, _, attribute = (place / "backend").read_text(encoding="utf-8").partition(":")
    backend: Any = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        backend = getattr(backend, part)
    (place / "wheel").mkdir()
    backend.build_wheel(str(place / "wheel"))


if __name__ == "__main__":
    main()
