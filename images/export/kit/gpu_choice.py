"""The GPUs of the machine: of several, each suite has one, beside as few others as possible.

Of equal ones it is the last: ROLL's own code can have the first alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"


def present(devices: Path = Path("/dev")) -> int:
    """Return how many GPUs have a device file.

    Args:
        devices: the directory of device files.
    """
    return len(list(devices.glob("nvidia[0-9]*")))


def visible(devices: Path = Path("/dev")) -> tuple[str, ...]:
    """Return the GPUs that may be used, as `CUDA_VISIBLE_DEVICES` names them; none if unknown.

    Args:
        devices: the directory of device files.
    """
    if (chosen := os.environ.get(VISIBLE)) is not None:
        return tuple(one.strip() for one in chosen.split(",") if one.strip())
    # CUDA numbers what it sees from 0, whatever the device files are called in a container.
    return tuple(map(str, range(present(devices))))


class Gpus:
    """GPUs that suites are given, one each.

    Args:
        names: as `CUDA_VISIBLE_DEVICES` names them; if empty, all suites share what there is.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._suites = dict.fromkeys(names or [""], 0)
        self._changed = threading.Lock()

    @contextmanager
    def one(self, *, first: bool) -> Iterator[str]:
        """Give the GPU with the fewest suites until the context ends; "" if none is known.

        Args:
            first: whether it must be the first: ROLL numbers a machine's GPUs from 0 by itself.
        """
        with self._changed:
            fewest = min(reversed(self._suites), key=lambda one: self._suites[one])
            name = next(iter(self._suites)) if first else fewest
            self._suites[name] += 1
        try:
            yield name
        finally:
            with self._changed:
                self._suites[name] -= 1
