"""A port of SGLang's gRPC server where the one that SGLang computes does not exist.

SGLang 0.5.12 to 0.5.15 add 10000 to an engine's port and refuse the engine if that exceeds 65535,
though gRPC is off unless `SGLANG_ENABLE_GRPC` is set (`sglang/srt/server_args.py`). ROLL asks the
kernel for a free port, which is up to 60999 by default: about one engine in five would not start.
Later releases compute no port; there the variable would enable the server.
"""

import functools
import os
from types import ModuleType
from typing import Any

from roll_runtime import versions
from roll_runtime.marks import is_ours, mark

VARIABLE = "SGLANG_GRPC_PORT"
_SINCE, _BEFORE = "0.5.12", "0.5.17"
_DISTANCE = 10000
_LAST = 65535


def patch_server_args(module: ModuleType, version: str) -> None:
    """Let `ServerArgs` of a module have any port; idempotent."""
    record = vars(module).get("ServerArgs")
    upstream: Any = getattr(record, "__post_init__", None)
    if upstream is None or not versions.in_range(version, _SINCE, _BEFORE):
        return
    if not is_ours(upstream):
        record.__post_init__ = _with_a_port(upstream)  # type: ignore[union-attr]


def _with_a_port(upstream: Any) -> Any:
    @functools.wraps(upstream)
    def __post_init__(self: Any, *call_args: Any) -> None:  # noqa: N807
        if os.environ.get(VARIABLE) is not None or self.port + _DISTANCE <= _LAST:
            upstream(self, *call_args)
            return
        # For SGLang's reading of it alone: what this process starts has ports of its own.
        os.environ[VARIABLE] = str(self.port - _DISTANCE)
        try:
            upstream(self, *call_args)
        finally:
            del os.environ[VARIABLE]

    return mark(__post_init__)
