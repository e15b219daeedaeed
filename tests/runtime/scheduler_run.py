"""Runs handlers of SGLang's real scheduler: release, resume, weight updates; all else stubbed.

Called by the tests as a script in a fresh interpreter, with a scenario as JSON on stdin; prints
what happened as JSON. The scheduler's module, the module that holds the handlers and SGLang's
constants are the wheel's own; torch and the model are not there, and the memory saver is one that
refuses what torch_memory_saver refuses: it ends the process there.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

from engine_run import STATE, Arguments, Stub, StubFinder

SCHEDULER = "sglang.srt.managers.scheduler"

#: SGLang's own files, where a release has them.
REAL = (
    SCHEDULER,
    "sglang.srt.constants",
    "sglang.srt.managers.scheduler_update_weights_mixin",
    "sglang.srt.managers.scheduler_components.weight_updater",
    "sglang.version",
    "sglang._version",
)
EVERYTHING = "everything"


class Saver(Stub):
    """A memory saver that ends where torch_memory_saver ends: memory is released once."""

    def __init__(self) -> None:
        super().__init__("saver")
        self.released: set[str] = set()
        self.calls: list[str] = []

    def pause(self, tag: str = EVERYTHING) -> None:
        assert tag not in self.released, f"cannot pause {tag}: it is not active"
        self.released.add(tag)
        self.calls.append(f"pause {tag}")

    def resume(self, tag: str = EVERYTHING) -> None:
        assert tag in self.released, f"cannot resume {tag}: it is not paused"
        self.released.remove(tag)
        self.calls.append(f"resume {tag}")


class Model:
    """A model without buffers."""

    def named_buffers(self) -> list[Any]:
        return []


class Request:
    """A handler's record: with tags, or of a release that has none."""

    selector = "all"

    def __init__(self, tags: list[str] | None) -> None:
        self.tags = tags

    def __getattr__(self, name: str) -> Any:
        return Stub(f"request.{name}")


def handler_of(made: Any, action: str) -> Any:
    """Return `release_memory_occupation` for `release`, else the handler of that name."""
    return getattr(made, action, None) or getattr(made, f"{action}_memory_occupation")


def handlers(saver: Saver) -> Any:
    """Return the object whose handlers the scheduler registers, as it stands after its start."""
    module: Any = importlib.import_module(SCHEDULER)
    owner = getattr(module, "SchedulerWeightUpdaterManager", None)
    kind: Any = owner if hasattr(owner, "offload_tags") else module.Scheduler
    made = object.__new__(kind)
    runner = Stub("runner")
    runner.model = Model()  # type: ignore[attr-defined]
    runner.server_args = STATE["args"]  # type: ignore[attr-defined]
    worker = Stub("worker")
    worker.model_runner = runner  # type: ignore[attr-defined]
    worker.worker = worker  # type: ignore[attr-defined]
    made.tp_worker = worker
    made.tp_cpu_group = None
    made.memory_saver_adapter = saver
    made.flush_cache = lambda *args, **kwargs: True
    for idle in ("_is_no_request", "is_fully_idle"):
        with contextlib.suppress(AttributeError):
            setattr(made, idle, lambda *args, **kwargs: True)
    if kind is owner:
        with contextlib.suppress(AttributeError):  # 0.5.13's has slots, and none for it
            made.scheduler = None
        if "_session" in getattr(kind, "__slots__", ()):
            made._session, made.metrics_collector = None, None
            made.draft_worker, made.scheduler = None, Stub("scheduler")
    keeps_tags = "offload_tags" in Path(str(module.__file__)).read_text()
    # A base class that is stubbed would have the name otherwise.
    made.offload_tags = set() if keeps_tags else None
    return made


def run(scenario: dict[str, Any]) -> dict[str, Any]:
    """Make the scenario's calls, in order, until one fails."""
    tree = Path(scenario["tree"])
    real = {name for name in REAL if tree.joinpath(*name.split(".")).with_suffix(".py").exists()}
    sys.meta_path.append(StubFinder(tree, real))
    STATE["server_args_class"] = Stub("ServerArgs")
    STATE["args"] = Arguments(weight_cache_mode="off", synchronize=lambda: None)
    saver = Saver()
    result: dict[str, Any] = {"error": None, "answers": [], "successes": []}
    try:
        made = handlers(saver)
        for action, tags in scenario["calls"]:
            answer = handler_of(made, action)(Request(tags))
            result["answers"].append(type(answer).__name__)
            result["successes"].append(getattr(answer, "success", False) is not False)
        result["session"] = getattr(made, "_session", None) is not None
        result["offload_tags"] = sorted(made.offload_tags or ())
    except BaseException as error:
        result.update(error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
    result.update(calls=saver.calls, released=sorted(saver.released))
    return result


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    given = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        outcome = run(given)
    print(json.dumps(outcome))
