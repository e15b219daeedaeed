"""Byte code for every module, of the kind that needs no file times."""

from __future__ import annotations

from images import layout
from tests.image.box import Box
from tests.image.subject import Subject

# Prints what is wrong with each source in the given directory. Flags: PEP 552.
CHECK = """
import importlib.util, json, os, sys, warnings
warnings.simplefilter("ignore")
faults = {"missing": [], "not unchecked-hash": [], "without a source": []}
count = 0
for place, folders, files in os.walk(sys.argv[1]):
    cached = os.path.basename(place) == "__pycache__"
    for name in files:
        path = os.path.join(place, name)
        if cached and name.endswith(".pyc"):
            if not os.path.exists(importlib.util.source_from_cache(path)):
                faults["without a source"].append(path)
        elif name.endswith(".py"):
            count += 1
            code = importlib.util.cache_from_source(path)
            if os.path.exists(code):
                with open(code, "rb") as stream:
                    head = stream.read(8)
                if head != importlib.util.MAGIC_NUMBER + b"\\1\\0\\0\\0":
                    faults["not unchecked-hash"].append(path)
                continue
            try:
                with open(path, "rb") as stream:
                    compile(stream.read(), path, "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                continue
            faults["missing"].append(path)
print(json.dumps([count, faults]))
"""
NEWER = (
    "find / -xdev \\( -path /tmp -o -path /proc -o -path /sys \\) -prune -o "
    "-newer %s -type f -print"
)


def test_every_source_has_its_byte_code(box: Box, subject: Subject) -> None:
    count, faults = box.ask(CHECK, f"/{layout.SITE_PACKAGES}")
    assert count > 10 * len(subject.versions), "sources were found at all"
    assert faults == {name: [] for name in faults}


def test_standard_library_has_its_byte_code(box: Box, subject: Subject) -> None:
    count, faults = box.ask(CHECK, f"/usr/lib/python{subject.target.python}")
    assert count > 500
    assert faults == {name: [] for name in faults}


def test_starting_python_writes_nothing(new_box: Box, subject: Subject) -> None:
    """In a box where no Python has run yet."""
    modules = [name for name in ("torch", "transformers") if name in subject.versions]
    with new_box.started() as fresh:
        fresh.run("touch /tmp/before && sleep 1")
        fresh.python(f"import roll_runtime, json, {', '.join(modules or ['sys'])}")
        assert fresh.run(NEWER, "/tmp/before").split() == []
