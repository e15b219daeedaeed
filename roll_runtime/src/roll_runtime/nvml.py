"""GPU memory in use, compute capabilities and the driver's version, from libnvidia-ml alone.

NVML looks at a GPU without a context on it: measuring takes no GPU memory, and what other processes
hold is counted.
"""

import ctypes
from collections.abc import Iterator, Sequence
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
    """Yield NVML, initialised, or `None` where there is none."""
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
    """Return the driver's version, such as `580.159.04`, or `None` where it is not reported."""
    text = ctypes.create_string_buffer(96)
    with _library() as nvml:
        if nvml is None or nvml.nvmlSystemGetDriverVersion(text, len(text)):
            return None
    return text.value.decode()


def capabilities() -> list[tuple[int, int]] | None:
    """Return the compute capability of each GPU, whatever CUDA_VISIBLE_DEVICES says.

    Returns:
        `None` where NVML does not report it.
    """
    handle, count, major, minor = ctypes.c_void_p(), *(ctypes.c_int() for _ in range(3))
    found = []
    with _library() as nvml:
        if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return None
        for index in range(count.value):
            if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
                return None
            capability = ctypes.byref(major), ctypes.byref(minor)
            if nvml.nvmlDeviceGetCudaComputeCapability(handle, *capability):
                return None
            found.append((major.value, minor.value))
    return found


def used_mib(gpus: Sequence[str]) -> int | None:
    """Return the MiB in use on some GPUs together, by all processes.

    Args:
        gpus: PCI bus ids. On a machine that several jobs share the other GPUs are not ours to
            count, and NVML, which knows no CUDA_VISIBLE_DEVICES, numbers all there are.

    Returns:
        `None` where NVML does not report it, or there is no GPU.
    """
    handle, memory, used = ctypes.c_void_p(), _Memory(), 0
    with _library() as nvml:
        if nvml is None or not gpus:
            return None
        for gpu in gpus:
            if nvml.nvmlDeviceGetHandleByPciBusId_v2(gpu.encode(), ctypes.byref(handle)):
                return None
            if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
                return None
            used += memory.used
    return used // _MIB
