"""Runs SGLang's real ``entrypoints/engine.py`` with every other import stubbed, in this process.

Called by the tests as a script in a fresh interpreter, with a scenario as JSON on stdin; prints
what happened as JSON. No SGLang dependency, no GPU: process starts are recorded, not done.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.abc
import importlib.util
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ClassVar

ENGINE = "sglang.srt.entrypoints.engine"

#: Values by name, where real code needs more than a stub: one engine, one node, nothing enabled.
NUMBERS = {"nnodes": 1, "gpu_id_step": 1, "base_gpu_id": 0, "port": 30000, "num_dp_ranks": 1}
IDENTITY = {"resolving_view", "resolved_view"}


class Record:
    """What the scenario saw."""

    calls: ClassVar[list[str]] = []
    starts: ClassVar[list[dict[str, Any]]] = []


def default_value(name: str) -> Any:
    """Guess what real code wants from an attribute, by its name."""
    if name in NUMBERS:
        return NUMBERS[name]
    if name.endswith(("_size", "_num", "_nums")):
        return 1
    if name.endswith("_rank"):
        return 0
    if name.startswith(("enable_", "disable_", "skip_", "use_", "is_")):
        return False
    return None


class Arguments:
    """Stands for a resolved ServerArgs: what was given, else a guess by name."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("moe", "features"):
            # get_exec().moe: a bag within a bag.
            return self
        if name == "get_attention_backends":
            return lambda: (self.attention_backend,)
        if name.startswith(("check_", "resolve_", "resolved_", "validate", "override", "url")):
            return lambda *args, **kwargs: {}
        return default_value(name)


class Stub:
    """Anything: a function, an object, a mapping, a number, a context."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        Record.calls.append(name)
        if name in IDENTITY or (len(args) == 1 and isinstance(args[0], FunctionType)):
            # A decorator among them: it changes nothing.
            return args[0]
        if name == "is_cuda":
            return True
        if name.startswith(("is_", "get_bool", "has_")):
            return False
        if name.endswith("_size"):
            return 1
        if name.startswith("get_") and STATE.get("args") is not None:
            # The argument bags of 0.5.18 and later: get_parallel(), get_serving(), ...
            return STATE["args"]
        return Stub(f"{self.__name__}()")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "get" and ".SGLANG_" in self.__name__:
            return lambda *args: False
        return Stub(f"{self.__name__}.{name}")

    def __iter__(self) -> Any:
        # Real code unpacks results of calls that are stubbed: two, as SGLang's pairs have.
        return iter((Stub("item"), Stub("item")))

    def __contains__(self, item: Any) -> bool:
        # "flashinfer" in attention_backends_of(...): 0.5.20 and later.
        return bool(item == getattr(STATE["args"], "attention_backend", None))

    def __getitem__(self, key: Any) -> Any:
        return Stub(f"{self.__name__}[]")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: Any) -> None:
        return None

    def __bool__(self) -> bool:
        return False

    def __lt__(self, other: Any) -> bool:
        return False

    __gt__ = __le__ = __ge__ = __lt__

    def __index__(self) -> int:
        return 1

    def __format__(self, spec: str) -> str:
        return self.__name__

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return (type(self.__name__.rpartition(".")[2], (), {}),)

    def __or__(self, other: Any) -> Any:
        return Any

    __ror__ = __or__


STATE: dict[str, Any] = {"args": None}


class StubModule(ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "EventLoopPolicy":
            return asyncio.DefaultEventLoopPolicy
        if self.__name__ == "sglang.srt.server_args" and name == "ServerArgs":
            return STATE["server_args_class"]
        if name.endswith("_process") and name.startswith("run_"):
            return target(self, name)
        if name[:1].isupper() and not name.isupper():
            return StubMeta(name, (StubClass,), {})
        return Stub(f"{self.__name__}.{name}")


class StubMeta(type):
    """One metaclass for all stub classes, so that real classes can inherit from several."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{cls.__name__}.{name}")

    def __iter__(cls) -> Any:
        return iter(())


class StubClass(metaclass=StubMeta):
    """A class that takes any arguments and whose instances have every attribute."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # class Record(msgspec.Struct, frozen=True): any options.
        super().__init_subclass__()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.__dict__.update(kwargs)

    def __call__(self, function: Any) -> Any:
        # @DynamicGradMode(): an instance that decorates.
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{type(self).__name__}().{name}")


def target(module: ModuleType, name: str) -> Any:
    """Return a process target that knows where it was defined."""

    def run(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a recorded process must not run")

    run.__name__ = run.__qualname__ = name
    run.__module__ = module.__name__
    setattr(module, name, run)
    return run


class StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the real files that a scenario names, and stubs for all that is not installed."""

    def __init__(self, tree: Path, real: set[str]) -> None:
        self.tree, self.real = tree, real

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name in self.real:
            location = self.tree.joinpath(*name.split(".")).with_suffix(".py")
            return importlib.util.spec_from_file_location(name, location)
        top = name.partition(".")[0]
        # Python 3.12.3 does not list Windows' `_wmi`, which `platform` tries.
        if top in sys.stdlib_module_names or top in ("_wmi", "roll_runtime", "roll"):
            return None
        return importlib.util.spec_from_loader(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        return StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return None


class Pipe:
    """The parent's end of a pipe: the child is ready at once."""

    def recv(self) -> dict[str, Any]:
        return {
            "status": "ready",
            "max_total_num_tokens": 1,
            "max_req_input_len": 1,
            "max_running_requests": 1,
        }

    def poll(self, timeout: float = 0) -> bool:
        return True

    def close(self) -> None:
        return None


class RecordedProcess:
    """A process that is recorded with its environment, not started."""

    pid, exitcode, daemon, name = 1, None, False, "recorded"

    def __init__(self, target: Any = None, args: Any = (), **kwargs: Any) -> None:
        self.target = target

    def start(self) -> None:
        Record.starts.append(
            {
                "target": getattr(self.target, "__name__", str(self.target)),
                "home": getattr(self.target, "__module__", ""),
                "env": dict(os.environ),
            }
        )

    def is_alive(self) -> bool:
        return True

    def join(self, timeout: float | None = None) -> None:
        return None


class Multiprocessing(StubModule):
    """``multiprocessing`` with recorded processes."""

    Process = RecordedProcess

    def Pipe(self, duplex: bool = True) -> tuple[Pipe, Pipe]:  # noqa: N802
        return Pipe(), Pipe()

    def set_start_method(self, method: str, force: bool = False) -> None:
        Record.calls.append(f"set_start_method:{method}")

    def __getattr__(self, name: str) -> Any:
        return getattr(multiprocessing, name)


def argument_class(names: list[str]) -> type:
    """Return a dataclass with the release's own field names."""
    fields = [(name, Any, dataclasses.field(default=None)) for name in names]
    namespace = {
        "__getattr__": Arguments.__getattr__,
        "__getattribute__": _some_value,
    }
    return dataclasses.make_dataclass("ServerArgs", fields, namespace=namespace)


def _some_value(self: Any, name: str) -> Any:
    value = object.__getattribute__(self, name)
    return default_value(name) if value is None and not name.startswith("_") else value


def start_engine(scenario: dict[str, Any]) -> None:
    """Import the engine and start it, as the scenario says."""
    if scenario.get("apply") == "before":
        importlib.import_module("roll_runtime").apply()
    engine: Any = importlib.import_module(ENGINE)
    # ROLL's patch imports the engine itself, so with the hook it always comes second; `before` is
    # before an explicit apply().
    load_roll(scenario, "before")
    if scenario.get("apply") in ("after", "twice"):
        for _ in range(2 if scenario["apply"] == "twice" else 1):
            importlib.import_module("roll_runtime").apply()
    load_roll(scenario, "after")
    os.environ.update(scenario.get("assign", {}))
    if scenario.get("stop_after_import"):
        return
    engine.mp = Multiprocessing("multiprocessing")
    # Its real work needs a model; the launch is what is tried here.
    for name in ("_init_tokenizer_manager", "init_tokenizer_manager"):
        if hasattr(engine, name):
            setattr(engine, name, lambda *args, **kwargs: (Stub("manager"), Stub("template")))
    kwargs = scenario.get("kwargs", {})
    for _ in range(scenario.get("launches", 1)):
        STATE["args"] = Arguments(**scenario.get("server_args", kwargs))
        if "server_args" in scenario:
            kwargs = {**kwargs, "server_args": STATE["args"]}
        instance = make_engine(engine, kwargs)
        STATE["made"] = instance


def make_engine(engine: ModuleType, kwargs: dict[str, Any]) -> Any:
    """Construct the engine with the tokenizer's side stubbed."""
    cls = engine.Engine
    if hasattr(cls, "init_tokenizer_manager_func"):
        pair = staticmethod(lambda *args, **kwargs: (Stub("manager"), Stub("template")))
        cls.init_tokenizer_manager_func = pair
    return cls(**kwargs)


def load_roll(scenario: dict[str, Any], moment: str) -> None:
    """Load ROLL's engine patch, or one that does the same things, before or after ours."""
    if scenario.get("roll") != moment:
        return
    path = Path(scenario["roll_patch"])
    spec = importlib.util.spec_from_file_location("roll_engine_patch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def wrappers(function: Any) -> int:
    """Count the wrappers around upstream's function."""
    count = 0
    while function is not None and hasattr(function, "__wrapped__"):
        function, count = function.__wrapped__, count + 1
    return count


def run(scenario: dict[str, Any]) -> dict[str, Any]:
    """Run a scenario and return what was seen."""
    tree = Path(scenario["tree"])
    real = {ENGINE, "sglang.version", "sglang._version"}
    real = {name for name in real if tree.joinpath(*name.split(".")).with_suffix(".py").exists()}
    sys.meta_path.append(StubFinder(tree, real))
    STATE["server_args_class"] = argument_class(scenario["fields"])
    result: dict[str, Any] = {"error": None, "type": None}

    def attempt() -> None:
        try:
            start_engine(scenario)
        except BaseException as error:
            result.update(error=str(error), type=type(error).__name__, trace=traceback.format_exc())

    async def coroutine() -> None:
        attempt()

    if scenario.get("thread") == "main":
        attempt()
    else:
        thread = threading.Thread(target=lambda: asyncio.run(coroutine()))
        thread.start()
        thread.join()
    made = STATE.get("made")
    engine = sys.modules.get(ENGINE)
    handler = signal.getsignal(signal.SIGQUIT)
    result.update(
        starts=Record.starts,
        calls=Record.calls,
        env=dict(os.environ),
        sigquit="default" if handler is signal.SIG_DFL else getattr(handler, "__name__", "?"),
        imported=ENGINE in sys.modules,
        wrapped=wrappers(getattr(engine, "_set_envs_and_config", None)),
        patched=getattr(getattr(engine, "signal", None), "__roll_runtime__", False),
        mem_fraction_static=getattr(
            getattr(made, "server_args", None), "mem_fraction_static", None
        ),
    )
    return result


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    given = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        outcome = run(given)
    print(json.dumps(outcome))
    sys.stdout.flush()
    # Threads and exit handlers of the engine are stubs: nothing is left to wait for.
    os._exit(0)
