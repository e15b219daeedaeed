"""The contract: what the patch relies on, checked in SGLang's source without importing it.

`python -m roll_runtime contract sglang-X.whl` reads a wheel, or an unpacked or installed tree. A
fault here means that this release needs a look before it enters `versions.py`.
"""

import ast
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from roll_runtime import versions
from roll_runtime.contract_occupation import occupation_faults
from roll_runtime.contract_shared_prompts import shared_prompts_faults
from roll_runtime.contract_weight_session import weight_session_faults
from roll_runtime.syntax import (
    annotated,
    attribute_of,
    calls_with_guard,
    find_class,
    find_class_in,
    find_function,
    imports_plainly,
    owner_of,
    parameters,
)

ENGINE = "sglang/srt/entrypoints/engine.py"
TOKENIZER = "sglang/srt/managers/tokenizer_manager.py"
SCHEDULER = "sglang/srt/managers/scheduler.py"
SERVER_ARGS = "sglang/srt/server_args.py"
ARGUMENT_FIELDS = "sglang/srt/arg_groups/fields/"
IO_STRUCT = "sglang/srt/managers/io_struct.py"
FP8 = "sglang/srt/layers/quantization/fp8.py"
PARAMETER = "sglang/srt/layers/parameter.py"

ROLL_ARGUMENTS = (
    "disable_custom_all_reduce",
    "dist_init_addr",
    "dtype",
    "enable_memory_saver",
    "log_level",
    "log_level_http",
    "mem_fraction_static",
    "model_path",
    "nnodes",
    "node_rank",
    "port",
    "random_seed",
    "skip_tokenizer_init",
    "tp_size",
    "trust_remote_code",
)
"""Arguments that ROLL always sets (roll/distributed/strategy/sglang_strategy.py at 8eb27cc2)."""


class Source(Protocol):
    """A source of SGLang's files."""

    def read(self, path: str) -> str | None:
        """Return a file's text, or `None` when there is no such file."""

    def names(self, prefix: str) -> list[str]:
        """Return the paths below a prefix."""


class WheelSource:
    """A wheel, read in place."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)

    def read(self, path: str) -> str | None:
        """Return a file's text, or `None`."""
        try:
            return self._archive.read(path).decode()
        except KeyError:
            return None

    def names(self, prefix: str) -> list[str]:
        """Return the paths below a prefix."""
        return [name for name in self._archive.namelist() if name.startswith(prefix)]


class TreeSource:
    """A directory that holds the package `sglang`, such as site-packages."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> str | None:
        """Return a file's text, or `None`."""
        file = self._root / path
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def names(self, prefix: str) -> list[str]:
        """Return the paths below a prefix."""
        folder = self._root / prefix
        return [file.relative_to(self._root).as_posix() for file in sorted(folder.glob("*"))]


@dataclass
class Report:
    """The outcome for one release.

    Attributes:
        version: SGLang's version, or `unknown`.
        missing: what the patch relies on and does not find: each a sentence.
        notes: what is worth knowing and no fault.
    """

    version: str
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether nothing is missing."""
        return not self.missing


def open_source(path: Path) -> Source:
    """Return the reader for a wheel or a directory.

    Raises:
        FileNotFoundError: there is neither.
    """
    if path.is_dir():
        return TreeSource(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such wheel or directory. Fetch one: pip download --no-deps sglang==X"
        )
    return WheelSource(path)


def wheel_version(path: Path) -> str:
    """Return the version from a wheel's file name or from a tree's own files."""
    match = re.fullmatch(r"sglang-([^-]+)-.*\.whl", path.name)
    if match:
        return match[1]
    for info in sorted(path.glob("sglang-*.dist-info")) if path.is_dir() else ():
        return info.name.removeprefix("sglang-").removesuffix(".dist-info")
    return "unknown"


def check(path: Path) -> Report:
    """Check one wheel or tree against everything that the patch relies on."""
    return Checker(open_source(path), wheel_version(path)).run()


class Checker:
    """Checks one release; collects every fault, not the first."""

    def __init__(self, source: Source, version: str) -> None:
        self._source = source
        self.report = Report(version)

    def run(self) -> Report:
        """Run every check and return the report."""
        engine = self._tree(ENGINE)
        if engine is not None:
            self._check_policy_hook(engine)
            self._check_signals(engine)
            self._check_engine_class(engine)
        self._check_tokenizer()
        self._check_scheduler_log()
        self.report.missing.extend(occupation_faults(self._source.read))
        found = shared_prompts_faults(self._source.read, self.report.version)
        self.report.missing.extend(found)
        self.report.missing.extend(weight_session_faults(self._source.read))
        self._check_arguments()
        self._check_fp8()
        return self.report

    def _fault(self, text: str) -> None:
        self.report.missing.append(text)

    def _tree(self, path: str) -> ast.Module | None:
        text = self._source.read(path)
        if text is None:
            fault = f"{path}: there is no such file"
            if fault not in self.report.missing:
                self._fault(fault)
            return None
        return ast.parse(text, path)

    def _check_policy_hook(self, engine: ast.Module) -> None:
        hook = find_function(engine, "_set_envs_and_config")
        if hook is None:
            self._fault(f"{ENGINE}: no module function _set_envs_and_config")
            return
        if parameters(hook) != ["server_args"]:
            self._fault(f"{ENGINE}: _set_envs_and_config takes {parameters(hook)}")
        launch = _launch_function(engine)
        if launch is None:
            self._fault(f"{ENGINE}: no _launch_subprocesses, as function or in Engine")
            return
        calls = [
            node
            for node in ast.walk(launch)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "_set_envs_and_config"
        ]
        if len(calls) != 1:
            self._fault(
                f"{ENGINE}: _launch_subprocesses calls _set_envs_and_config {len(calls)} times "
                "by its bare name, not once"
            )

    def _check_signals(self, engine: ast.Module) -> None:
        if not any(imports_plainly(node, "signal") for node in engine.body):
            self._fault(f"{ENGINE}: no plain `import signal`")
        for node in ast.walk(engine):
            if isinstance(node, ast.Global) and "signal" in node.names:
                self._fault(f"{ENGINE}:{node.lineno}: rebinds the name signal")
        unguarded = []
        for call, guarded in calls_with_guard(engine):
            name = attribute_of(call)
            if name == "signal" and owner_of(call) != "signal":
                self._fault(
                    f"{ENGINE}:{call.lineno}: registers a signal as {ast.unparse(call.func)}"
                )
            if name == "add_signal_handler" and not guarded:
                self._fault(f"{ENGINE}:{call.lineno}: add_signal_handler off the main thread")
            if name == "signal" and not guarded:
                unguarded.append(str(call.lineno))
        if unguarded:
            self.report.notes.append(
                f"signal.signal without a main-thread guard at lines {', '.join(unguarded)}: "
                "handled by the patch"
            )
        else:
            self.report.notes.append("upstream guards its signal handlers itself")

    def _check_engine_class(self, engine: ast.Module) -> None:
        owner = find_class(engine, "Engine")
        init = find_function(owner, "__init__") if owner is not None else None
        if init is None or init.args.kwarg is None:
            self._fault(f"{ENGINE}: no class Engine with __init__(self, **kwargs)")

    def _check_tokenizer(self) -> None:
        tree = self._tree(TOKENIZER)
        for call, guarded in calls_with_guard(tree) if tree is not None else ():
            if attribute_of(call) == "add_signal_handler" and not guarded:
                self._fault(f"{TOKENIZER}:{call.lineno}: add_signal_handler off the main thread")

    def _check_scheduler_log(self) -> None:
        text = self._source.read(SCHEDULER)
        if text is None:
            self._fault(f"{SCHEDULER}: there is no such file")
        elif "Scheduler hit an exception: " not in text:
            self._fault(f"{SCHEDULER}: does not log `Scheduler hit an exception: `")

    def _check_arguments(self) -> None:
        fields = server_args_fields(self._source)
        if not fields:
            self._fault(f"{SERVER_ARGS}: no fields of ServerArgs found")
            return
        missing = [name for name in ROLL_ARGUMENTS if name not in fields]
        if missing:
            self._fault(f"{SERVER_ARGS}: ROLL sets {', '.join(missing)}, which is not there")
        if find_class_in(self._tree(IO_STRUCT), "GenerateReqInput") is None:
            self._fault(f"{IO_STRUCT}: no class GenerateReqInput")

    def _check_fp8(self) -> None:
        """FP8 on load: the refusal needs `from_config` alone, the support needs the rest."""
        tree = self._tree(FP8)
        if tree is None:
            return
        config = find_class(tree, "Fp8Config")
        if config is None or find_function(config, "from_config") is None:
            self._fault(f"{FP8}: no Fp8Config.from_config")
        release = versions.find_release(self.report.version)
        faults = [*_fp8_faults(tree), *_parameter_faults(self._tree(PARAMETER))]
        if release is not None and release.fp8:
            self.report.missing.extend(faults)
        else:
            self.report.notes.append("block FP8 on load: refused on this release")


def server_args_fields(source: Source) -> set[str]:
    """Return the field names of ServerArgs.

    Up to 0.5.18 they are annotated in the class; later assembled from `arg_groups/fields/*.py`.
    """
    text = source.read(SERVER_ARGS)
    record = find_class(ast.parse(text), "ServerArgs") if text is not None else None
    fields = set(annotated(record)) if record is not None else set()
    for name in source.names(ARGUMENT_FIELDS):
        part = source.read(name) if name.endswith(".py") else None
        for node in ast.walk(ast.parse(part)) if part is not None else ():
            if isinstance(node, ast.ClassDef):
                fields.update(annotated(node))
    return fields


def _launch_function(engine: ast.Module) -> ast.FunctionDef | None:
    """Return the launch: a module function up to 0.5.9, later a classmethod of Engine."""
    owner = find_class(engine, "Engine")
    launch = find_function(engine, "_launch_subprocesses")
    if launch is None and owner is not None:
        launch = find_function(owner, "_launch_subprocesses")
    return launch


def _fp8_faults(tree: ast.Module) -> Iterator[str]:
    wanted: dict[str, list[str | None]] = {
        "Fp8LinearMethod": [
            "layer",
            "input_size_per_partition",
            "output_partition_sizes",
            "input_size",
            "output_size",
            "params_dtype",
        ],
        "Fp8MoEMethod": ["layer", "num_experts", "hidden_size", None, "params_dtype"],
    }
    for name, wants in wanted.items():
        method = find_class(tree, name)
        create = find_function(method, "create_weights") if method is not None else None
        if create is None:
            yield f"{FP8}: no {name}.create_weights"
            continue
        found = parameters(create)[1:]
        if any(want not in (None, have) for want, have in zip(wants, found, strict=False)):
            yield f"{FP8}: {name}.create_weights takes {found}"
        if create.args.kwarg is None:
            yield f"{FP8}: {name}.create_weights takes no further attributes (weight_loader)"
        process = find_function(method, "process_weights_after_loading") if method else None
        if process is None or parameters(process) != ["self", "layer"]:
            yield f"{FP8}: no {name}.process_weights_after_loading(self, layer)"
    if find_class(tree, "Fp8KVCacheMethod") is None:
        yield f"{FP8}: no class Fp8KVCacheMethod"


def _parameter_faults(tree: ast.Module | None) -> Iterator[str]:
    for name in ("BlockQuantScaleParameter", "ModelWeightParameter"):
        if find_class_in(tree, name) is None:
            yield f"{PARAMETER}: no class {name}"
