"""Whether Triton is to ask the image for kernels: `TRITON_CACHE_MANAGER`."""

from collections.abc import MutableMapping

from roll_runtime import image_kernels

VARIABLE = "TRITON_CACHE_MANAGER"

MANAGER = "roll_runtime.triton_cache:ImageCacheManager"

NEXT = "ROLL_RUNTIME_TRITON_CACHE_MANAGER"
"""The manager behind the image's; Triton's own if it is not set."""

_SGLANGS = (
    "sglang.srt.utils:CustomCacheManager",
    "sglang.srt.utils.common:CustomCacheManager",
)
"""What SGLang up to 0.4.6 sets with several GPUs. It has a directory for each process."""


def settle(environ: MutableMapping[str, str]) -> None:
    """Put the image's manager before Triton's or SGLang's; an operator's own stays alone.

    Only where the image has kernels for Triton: else nothing is changed.
    """
    if image_kernels.directory("triton") is None:
        return
    current = environ.get(VARIABLE, "")
    if current in _SGLANGS:
        environ[NEXT] = current
    elif current not in ("", MANAGER):
        return
    environ[VARIABLE] = MANAGER
