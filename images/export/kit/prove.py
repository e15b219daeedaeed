"""The program of a kit: checks and unpacks the suite, and starts `images.export.kit.run` in it.

A kit has a copy of this file; it uses the standard library alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

# `python -m` would prefer the code of the current directory, which may be another checkout. With
# `-c` that is "" in the path, unless PYTHONSAFEPATH is set.
_RUN = """
import sys
sys.path[:] = filter(None, sys.path)
from images.export.kit.run import main
sys.exit(main())
"""


def main() -> None:
    """Become the run of the kit, by the code in `suite.tar`."""
    if sys.version_info < (3, 10):  # noqa: UP036 - of whatever machine this is on
        sys.exit("error: prove.py needs Python 3.10 or later, as the tests do")
    kit = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--work", type=Path, default=kit / "work")
    options, _ = parser.parse_known_args()
    suite = _unpacked(kit, options.work.absolute())
    paths = [str(suite), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", _RUN, "--kit", str(kit), *sys.argv[1:]]
    os.execve(sys.executable, command, environment)  # noqa: S606


def _unpacked(kit: Path, work: Path) -> Path:
    archive = kit / "suite.tar"
    try:
        wanted = json.loads((kit / "kit.json").read_bytes())["suite_sha256"]
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}\nfix: send it first")
    if found != wanted:
        sys.exit(f"error: {archive}: damaged\nfix: send suite.tar and kit.json again")
    suite = work / f"suite-{wanted[:16]}"
    if not suite.is_dir():
        unfinished = work / f"suite-unfinished-{os.getpid()}"
        unfinished.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            tar.extraction_filter = lambda member, _: member  # without one Python 3.12 warns
            tar.extractall(unfinished)  # noqa: S202 - its SHA-256 is that of kit.json
        try:
            unfinished.rename(suite)
        except OSError:  # another run was faster
            shutil.rmtree(unfinished)
    return suite


if __name__ == "__main__":
    main()
