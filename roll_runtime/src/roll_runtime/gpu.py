"""The NVIDIA driver's facts, from its own libraries: no torch, no nvidia-smi.

Run as a child process (`python -m roll_runtime.gpu`), because a broken driver can hang.
"""

import ctypes
import json
import subprocess
import sys
from typing import Any

from roll_runtime import nvml

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


def ask() -> dict[str, Any]:
    """Return the driver's CUDA version and its devices, or why there is none.

    Returns:
        `{"cuda": [12, 8], "driver": "570.86.15", "devices": [{"name": …, "capability": [9, 0],
        "memory_gib": …, "pci": "0000:0F:00.0"}]}`, with `None` for the driver's version where
        NVML does not report it, or `{"error": …}`.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"error": f"libcuda.so.1 cannot be loaded ({error})"}
    status = cuda.cuInit(0)
    if status:
        return {"error": f"cuInit returned {status}"}
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    return {
        "cuda": [version.value // 1000, version.value % 1000 // 10],
        "driver": nvml.driver_version(),
        "devices": [_device(cuda, index) for index in range(count.value)],
    }


def _device(cuda: Any, index: int) -> dict[str, Any]:
    handle, number, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name, pci = ctypes.create_string_buffer(100), ctypes.create_string_buffer(32)
    cuda.cuDeviceGet(ctypes.byref(handle), index)
    cuda.cuDeviceGetName(name, len(name), handle)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
    cuda.cuDeviceGetPCIBusId(pci, len(pci), handle)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, handle)
        capability.append(number.value)
    return {
        "name": name.value.decode(),
        "capability": capability,
        "memory_gib": round(size.value / 2**30, 1),
        "pci": pci.value.decode(),
    }


def ask_in_child(timeout: float = 60.0) -> dict[str, Any]:
    """Call `ask` in a child process: a driver that hangs costs the timeout (seconds), no more."""
    command = [sys.executable, "-m", "roll_runtime.gpu"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"error": f"the driver did not answer within {timeout:g} s"}
    except ValueError:
        return {"error": f"the driver's process ended with status {done.returncode}"}
    return answer


if __name__ == "__main__":
    print(json.dumps(ask()))
