"""GPU memory in use and the driver's version, from libnvidia-ml alone.

NVML looks at a GPU without a context on it: measuring takes no GPU memory, and what other processes
hold is counted.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MIB = 1 << 20


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


@contextmanager
def _library() -> Iterator[Any]:
    """Yield NVML, initialised, or ``None`` where there is none."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        ready = nvml.nvmlInit_v2() == 0
    except (OSError, AttributeError):
        ready = False
    if not ready:
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def driver_version() -> str | None:
    """Return the driver's version, such as ``580.159.04``, or ``None`` where it does not tell."""
    text = ctypes.create_string_buffer(96)
    with _library() as nvml:
        if nvml is None or nvml.nvmlSystemGetDriverVersion(text, len(text)):
            return None
    return text.value.decode()


def used_mib() -> int | None:
    """Return the MiB in use on all GPUs of this machine together, by whomever.

    Returns:
        ``None`` where NVML does not tell.
    """
    count, handle, memory, used = ctypes.c_uint(), ctypes.c_void_p(), _Memory(), 0
    with _library() as nvml:
        if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return None
        for index in range(count.value):
            if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
                return None
            if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
                return None
            used += memory.used
    return used // _MIB
