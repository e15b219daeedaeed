"""Which GPUs an image serves: compute capabilities, and the ends of ids that name them.

A target is narrowed to some of its GPUs under its id with an end for each:
`torch280-sglang052-sm90` is `torch280-sglang052` for compute capability 9.0 alone. It has the
target's lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from images.errors import UsageError
from images.inputs import compilers

ENV = "ROLL_RUNTIME_GPUS"
"""The variable of the image that roll_runtime reads the served GPUs from."""

ENV_WHY = "roll_runtime refuses an engine on a GPU that the image has no machine code for"

_CAPABILITY = re.compile(r"[1-9][0-9]?\.[0-9]")
_ARCHITECTURE = re.compile(r"(?:sm|compute)?_?([1-9][0-9]?)([0-9])[af]?")
_ENDS = re.compile(r"(.*?)((?:-sm[1-9][0-9]{1,2})+)")


def split(text: str) -> list[str]:
    """Return the words of a list of capabilities, which are separated by commas or spaces."""
    return re.findall(r"[^,\s]+", text)


def wrong(text: str) -> str | None:
    """Check a compute capability: its form, and that some compiler serves it."""
    if not _CAPABILITY.fullmatch(text):
        found = _ARCHITECTURE.fullmatch(text)
        hint = f"{found[1]}.{found[2]}" if found else "MAJOR.MINOR, as in 9.0"
        return f"{text!r} is not a compute capability: write {hint}"
    known = in_order(gpu for item in compilers.BY_VERSION.values() for gpu in item.gpus)
    if text in known:
        return None
    return f"no compiler serves compute capability {text}: there is {', '.join(known)}"


def not_served(text: str, compiler: str) -> str | None:
    """Check that the compiler of a target serves a capability."""
    served = compilers.BY_VERSION[compiler].gpus
    if text in served:
        return None
    return (
        f"the compiler, CUDA {compiler}, does not serve compute capability {text}: it serves "
        f"{', '.join(served)}"
    )


def in_order(capabilities: Iterable[str]) -> tuple[str, ...]:
    """Return capabilities by number, each once."""
    return tuple(sorted(set(capabilities), key=number))


def number(capability: str) -> tuple[int, int]:
    """Return the major and minor version of a compute capability."""
    major, minor = capability.split(".")
    return int(major), int(minor)


def architectures(capabilities: Sequence[str]) -> str:
    """Return the architectures that compilers name so: `sm_80 sm_90`."""
    return " ".join(f"sm_{capability.replace('.', '')}" for capability in capabilities)


def ends(capabilities: Sequence[str]) -> str:
    """Return the end of the id of a target that is narrowed to these capabilities."""
    return "".join(f"-sm{capability.replace('.', '')}" for capability in capabilities)


def plain_id(target_id: str) -> str:
    """Return an id without the ends that name GPUs."""
    return named(target_id)[0]


def named(target_id: str) -> tuple[str, tuple[str, ...]]:
    """Return an id without the ends that name GPUs, and the capabilities that they name."""
    found = _ENDS.fullmatch(target_id)
    if found is None:
        return target_id, ()
    return found[1], tuple(f"{end[:-1]}.{end[-1]}" for end in found[2].split("-sm")[1:])


def check_narrowing(target_id: str, served: Sequence[str], wanted: Sequence[str]) -> None:
    """Check that a target can be narrowed to these GPUs.

    Args:
        target_id: of the target.
        served: the capabilities that it serves.
        wanted: those that the narrowed one shall serve.

    Raises:
        UsageError: it does not serve one of them, they are all that it serves, or they are not in
            order, so that one image would have several names.
    """
    all_of_them = ", ".join(served)
    if other := [gpu for gpu in wanted if gpu not in served]:
        raise UsageError(
            f"{target_id} does not serve compute capability {', '.join(in_order(other))}: it "
            f"serves {all_of_them}",
            remedy=f"name some of these, or leave them out: python build.py --target {target_id}",
        )
    if set(wanted) == set(served):
        raise UsageError(
            f"{target_id} itself serves compute capability {all_of_them}, and no other",
            remedy=f"python build.py --target {target_id}",
        )
    if in_order(wanted) != tuple(wanted):
        raise UsageError(
            f"{target_id}{ends(wanted)}: GPUs are named in order, each once",
            remedy=f"write {target_id}{ends(in_order(wanted))}",
        )
