"""The end of the help: exit codes and examples."""

from __future__ import annotations

from itertools import starmap, zip_longest

EXIT_CODES = {
    0: "done",
    1: "other failure",
    2: "wrong usage",
    3: "matrix.yaml not valid",
    4: "lock missing or stale",
    5: "a file cannot be fetched",
    6: "bytes differ from their lock",
    7: "store, disk or output",
    8: "program missing or failed, or host unfit",
    9: "Docker",
    10: "the image's tests failed",
    11: "registry",
    12: "registry needs a login, or another one",
    13: "image larger than its budget",
    130: "interrupted",
}
"""Their meanings. The class of an error in `images/errors.py` has its code."""

EXAMPLES = (
    ("--target torch280-sglang052", "build an image (the same as build --target)"),
    (
        "--target torch280-sglang052 --cache-from registry.example.com/team/roll-cache",
        "build it from layers that others made",
    ),
    ("fetch --target torch280-sglang052", "download what a build without a network needs"),
    ("propose --newest", "add the newest SGLang as a target"),
    ("list", "show what can be built, and what is built"),
    ("diff torch280-sglang052 torch280-sglang055", "show what moving costs"),
    ("load --target torch280-sglang052", "load it into the Docker daemon"),
    (
        "bundle --target torch280-sglang052 --out DIR",
        "write it for a machine without a registry",
    ),
    (
        "push --target torch280-sglang052 --to registry.example.com/team/roll-sglang",
        "push it to a registry",
    ),
    (
        "promote --target torch280-sglang052 --to registry.example.com/team/roll-sglang",
        "tag it there, once it was proven on a GPU",
    ),
    ("test --target torch280-sglang052", "test it, in a container if there is Docker"),
    ("test --target torch280-sglang052 --gpu", "test it on a GPU, and keep the evidence"),
    (
        "test --target torch280-sglang052-roll --gpu --roll CHECKOUT",
        "test ROLL itself in it",
    ),
    ("prove --all --out DIR", "write a kit that tests images elsewhere"),
)
"""Arguments of `python build.py`, and what they do."""

_COLUMN = 52
"""Where the meanings of examples begin."""


def epilog() -> str:
    """Return the end of the help."""
    codes = [f"{code:>4} {meaning}" for code, meaning in EXIT_CODES.items()]
    half = len(codes) // 2
    pairs = zip_longest(codes[:half], codes[half:], fillvalue="")
    rows = [f"{left:<34}{right}" for left, right in pairs]
    return "\n".join(["exit codes:", *rows, "", "examples:", *starmap(_example, EXAMPLES)])


def _example(arguments: str, meaning: str) -> str:
    command = f"  python build.py {arguments}"
    if len(command) < _COLUMN:
        return f"{command:<{_COLUMN}}{meaning}"
    return f"{command}\n{'':<{_COLUMN}}{meaning}"
