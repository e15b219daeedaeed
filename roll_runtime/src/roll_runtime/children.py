"""The processes below this one, and the environment that each really has."""

import os
from pathlib import Path
from typing import Any


def _descendants() -> list[int]:
    """Return the process ids below this process, from /proc."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found, wave = [], {os.getpid()}
    while wave:
        wave = {pid for pid, parent in parents.items() if parent in wave}
        found += sorted(wave)
    return found


def environments() -> list[dict[str, Any]]:
    """Return the engine's processes below this one.

    Returns:
        For each `{"process": "sglang::scheduler", "env": {…}}`: the title that it gave itself (or
        `python`), and the policy's variables as it started with them.
    """
    from roll_runtime.policy import NAMES

    seen = []
    for pid in _descendants():
        try:
            command = (Path("/proc") / str(pid) / "cmdline").read_bytes()
            raw = (Path("/proc") / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        # SGLang names its processes `sglang::scheduler…`; multiprocessing's resource tracker and
        # Triton's compiler are not the engine's.
        if b"sglang::" in command or b"spawn_main" in command:
            pairs = dict(
                part.partition("=")[::2]
                for part in raw.decode(errors="replace").split("\0")
                if part
            )
            named = command.decode(errors="replace").strip("\0").partition("\0")[0].strip()
            seen.append(
                {
                    "process": named if named.startswith("sglang::") else "python",
                    "env": {name: pairs[name] for name in NAMES if name in pairs},
                }
            )
    return seen


def check(version: str, seen: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with the children's environments, a sentence each.

    Args:
        version: SGLang's version.
        seen: what `environments` returned.
    """
    from roll_runtime.policy import Kind, rules_for

    if not seen:
        return ["the engine has no child process"]
    faults = []
    for rule in rules_for(version):
        for child in seen:
            found = child["env"].get(rule.name)
            if rule.kind is Kind.REMOVE and found is not None:
                faults.append(f"a child has {rule.name}={found}")
            expected = os.environ.get(rule.name)
            if rule.kind is Kind.KEEP and found != expected:
                faults.append(f"a child has {rule.name}={found}, not {expected}")
    return sorted(set(faults))
