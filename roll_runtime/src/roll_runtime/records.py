"""Constructors of SGLang's argument records, made to take what ROLL passes.

`ServerArgs` (`sglang/srt/server_args.py`) and the requests that ROLL's strategy makes
(`sglang/srt/managers/io_struct.py`): a missing field whose value requests nothing is dropped, any
other is refused by name. Only dataclasses are touched; from 0.5.20 `ServerArgs` is a msgspec
structure that has every field ROLL passes and names the ones it lacks itself.
"""

import dataclasses
import functools
from types import ModuleType
from typing import Any

from roll_runtime import args, grpc_port
from roll_runtime.marks import is_ours, mark

_RECORDS = (
    "ServerArgs",
    "GenerateReqInput",
    "ReleaseMemoryOccupationReqInput",
    "ResumeMemoryOccupationReqInput",
    "UpdateWeightsFromDistributedReqInput",
)


def patch_records(module: ModuleType, version: str) -> None:
    """Wrap the constructors of the records that a module defines; idempotent."""
    for name in _RECORDS:
        record = vars(module).get(name)
        if isinstance(record, type) and dataclasses.is_dataclass(record):
            _wrap(record, f"SGLang {version}'s {name}")
    grpc_port.patch_server_args(module, version)


def _wrap(record: Any, target: str) -> None:
    init = record.__init__
    known = args.field_names(record)
    if known is None or is_ours(init):
        return

    @functools.wraps(init)
    def __init__(self: Any, *call_args: Any, **kwargs: Any) -> None:  # noqa: N807
        # One subset test where nothing is missing: requests pass through here.
        if not kwargs.keys() <= known:
            kwargs = args.adapt(kwargs, known, target)
        init(self, *call_args, **kwargs)

    record.__init__ = mark(__init__)
