"""The environment policy: what an engine's processes see, and why. The one table.

Who wins, first to last:

1. `ROLL_RUNTIME_SET_<NAME>=value` (empty: the variable is removed), for every variable below;
2. a value found in the environment, where the rule keeps it;
3. the rule's default.

`roll_runtime.env` carries it out.
"""

from dataclasses import dataclass
from enum import Enum

from roll_runtime import versions

OVERRIDE = "ROLL_RUNTIME_SET_"
"""Prefix of the variables that override one rule each."""


class Kind(Enum):
    """How a rule treats its variable."""

    KEEP = "keep, else default"
    """A value in the environment is kept, whatever upstream sets; else the default."""

    DERIVE = "derive from the engine's arguments"
    """Upstream derives it from the engine's arguments; ROLL's preset "0" counts as absent and any
    other value in the environment is kept."""

    UPSTREAM = "leave to SGLang"
    """Upstream's own rule is right; only the override acts."""

    REMOVE = "remove"
    """Removed before the engine's children start."""

    WORKSPACE = "shared when warm, else per worker"
    """See `roll_runtime.flashinfer_base`."""

    CACHE = "keep, else below `ROLL_RUNTIME_CACHE_DIR`:"
    """A compiler's cache. A value that only a library set counts as absent; see
    `roll_runtime.caches`."""

    MANAGER = "the image's kernels first, then upstream's"
    """See `roll_runtime.triton_setting`."""


@dataclass(frozen=True)
class Rule:
    """One row of the policy.

    Attributes:
        name: the environment variable.
        kind: how it is treated.
        value: the default, for `Kind.KEEP`; the directory's name, for `Kind.CACHE`.
        since: first SGLang version of the rule, or `None`.
        before: first SGLang version without it, or `None`.
        upstream: what SGLang itself does in those versions.
        reason: why the rule is there.
    """

    name: str
    kind: Kind
    upstream: str
    reason: str
    value: str = ""
    since: str | None = None
    before: str | None = None

    def covers(self, version: str) -> bool:
        """Return whether the rule holds for an SGLang version; other text counts as the newest."""
        try:
            return versions.in_range(version, self.since, self.before)
        except ValueError:
            return self.before is None


_ALLOC_REASON = (
    "ROLL presets expandable_segments:True for its trainers. torch_memory_saver, which frees and "
    "restores the engine's memory between rollouts, refuses to start with it."
)

_SHARED = "One directory for all workers, of this image's versions: "

POLICY: tuple[Rule, ...] = (
    Rule(
        "CUDA_DEVICE_MAX_CONNECTIONS",
        Kind.KEEP,
        value="4",
        before="0.5.4",
        upstream="sets 4, always",
        reason="Four hardware queues are what ROLL runs its rollouts with on every version.",
    ),
    Rule(
        "CUDA_DEVICE_MAX_CONNECTIONS",
        Kind.KEEP,
        value="4",
        since="0.5.4",
        upstream="sets 8, always",
        reason="Four hardware queues are what ROLL runs its rollouts with on every version.",
    ),
    Rule(
        "CUDA_MODULE_LOADING",
        Kind.KEEP,
        value="AUTO",
        before="0.5.20",
        upstream="sets AUTO, always",
        reason="CUDA's own choice; an operator who debugs module loading may want LAZY or EAGER.",
    ),
    Rule(
        "CUDA_MODULE_LOADING",
        Kind.KEEP,
        value="AUTO",
        since="0.5.20",
        upstream="does not set it",
        reason="Kept the same on every version, so that images of two versions compare.",
    ),
    Rule(
        "TRTLLM_ENABLE_PDL",
        Kind.KEEP,
        value="1",
        since="0.5.2",
        upstream='sets 1 unless it is "0"',
        reason="FlashInfer's kernels overlap their launches with it (programmatic launch).",
    ),
    Rule(
        "NCCL_CUMEM_ENABLE",
        Kind.DERIVE,
        before="0.4.10",
        upstream="sets 0, always (there is no enable_symm_mem)",
        reason="0 unless the operator set another value.",
    ),
    Rule(
        "NCCL_CUMEM_ENABLE",
        Kind.DERIVE,
        since="0.4.10",
        before="0.5.4",
        upstream="sets int(enable_symm_mem), always",
        reason="Follows enable_symm_mem; an operator's own non-zero value is kept.",
    ),
    Rule(
        "NCCL_CUMEM_ENABLE",
        Kind.DERIVE,
        since="0.5.4",
        before="0.5.5",
        upstream="sets int(enable_symm_mem) only when it is absent",
        reason="ROLL's workers preset 0, with which upstream would lose enable_symm_mem=True.",
    ),
    Rule(
        "NCCL_CUMEM_ENABLE",
        Kind.UPSTREAM,
        since="0.5.5",
        upstream="sets int(enable_symm_mem) when it is absent or symmetric memory is on; later "
        "releases also turn it on for multi-node NVLink, deepep_v2 and KV-cache sharding",
        reason="Upstream keeps a preset and still follows enable_symm_mem.",
    ),
    Rule(
        "NCCL_NVLS_ENABLE",
        Kind.DERIVE,
        before="0.4.10",
        upstream="sets int(enable_nccl_nvls), always",
        reason="Follows enable_nccl_nvls; an operator's own non-zero value is kept.",
    ),
    Rule(
        "NCCL_NVLS_ENABLE",
        Kind.DERIVE,
        since="0.4.10",
        before="0.5.5",
        upstream="sets int(enable_nccl_nvls) unless enable_symm_mem is on",
        reason="ROLL's workers preset 0, which would stay with enable_symm_mem=True; removed, the "
        "choice is NCCL's.",
    ),
    Rule(
        "NCCL_NVLS_ENABLE",
        Kind.UPSTREAM,
        since="0.5.5",
        upstream="sets int(enable_nccl_nvls or enable_symm_mem) when it is absent or one is on",
        reason="Upstream keeps a preset and still follows both arguments.",
    ),
    Rule(
        "PYTORCH_CUDA_ALLOC_CONF",
        Kind.REMOVE,
        upstream="does not touch it",
        reason=_ALLOC_REASON,
    ),
    Rule(
        "PYTORCH_ALLOC_CONF",
        Kind.REMOVE,
        upstream="does not touch it",
        reason="The same setting by the name that torch 2.9 and later read first. " + _ALLOC_REASON,
    ),
    Rule(
        "FLASHINFER_WORKSPACE_BASE",
        Kind.WORKSPACE,
        before="0.4.6.post4",
        upstream="does not set it; its FlashInfer, 0.2.3, does not read it (`~/.cache/flashinfer`)",
        reason="Set as on every version, to no effect: workers share one directory below HOME.",
    ),
    Rule(
        "FLASHINFER_WORKSPACE_BASE",
        Kind.WORKSPACE,
        since="0.4.6.post4",
        before="0.5.18",
        upstream="does not set it",
        reason="Workers that compile the same kernels at once must not share a directory on a "
        "network HOME, and a cache that is already warm must not be compiled again per worker.",
    ),
    Rule(
        "FLASHINFER_WORKSPACE_BASE",
        Kind.WORKSPACE,
        since="0.5.18",
        upstream="`import sglang` sets SGLANG_CACHE_DIR (~/.cache/sglang) when it is absent",
        reason="Workers that compile the same kernels at once must not share a directory on a "
        "network HOME, and a cache that is already warm must not be compiled again per worker.",
    ),
    Rule(
        "TRITON_CACHE_DIR",
        Kind.CACHE,
        value="triton",
        before="0.5.18",
        upstream="does not set it; inductor does, for all of its process",
        reason=_SHARED + "Triton renames whole files into place.",
    ),
    Rule(
        "TRITON_CACHE_DIR",
        Kind.CACHE,
        value="triton",
        since="0.5.18",
        upstream="`import sglang` sets it below SGLANG_CACHE_DIR when it is absent",
        reason=_SHARED + "Triton renames whole files into place.",
    ),
    Rule(
        "TRITON_CACHE_MANAGER",
        Kind.MANAGER,
        before="0.4.7",
        upstream="sets its own (a directory for each process) with several GPUs when it is absent",
        reason="Only where the image has kernels for Triton; an operator's own manager stays.",
    ),
    Rule(
        "TRITON_CACHE_MANAGER",
        Kind.MANAGER,
        since="0.4.7",
        upstream="does not set it",
        reason="Only where the image has kernels for Triton; an operator's own manager stays.",
    ),
    Rule(
        "TORCHINDUCTOR_CACHE_DIR",
        Kind.CACHE,
        value="torchinductor",
        before="0.5.18",
        upstream="does not set it; torch sets `/tmp/torchinductor_<user>` at first use",
        reason=_SHARED + "inductor locks and renames. /tmp is lost with the container.",
    ),
    Rule(
        "TORCHINDUCTOR_CACHE_DIR",
        Kind.CACHE,
        value="torchinductor",
        since="0.5.18",
        upstream="`import sglang` sets it below SGLANG_CACHE_DIR when it is absent",
        reason=_SHARED + "inductor locks and renames.",
    ),
    Rule(
        "SGL_DG_CACHE_DIR",
        Kind.CACHE,
        value="deep_gemm",
        before="0.5.4",
        upstream="reads it, `~/.cache/deep_gemm` when it is absent",
        reason=_SHARED + "DeepGEMM renames; SGLang locks what it compiles beforehand.",
    ),
    Rule(
        "SGLANG_DG_CACHE_DIR",
        Kind.CACHE,
        value="deep_gemm",
        since="0.5.4",
        upstream="reads it, `~/.cache/deep_gemm` when it is absent (0.5.18: SGLANG_CACHE_DIR)",
        reason=_SHARED + "DeepGEMM renames; SGLang locks what it compiles beforehand.",
    ),
    Rule(
        "DG_JIT_CACHE_DIR",
        Kind.CACHE,
        value="deep_gemm",
        upstream="sets it to the one before, always (0.4.6.post1: DG_CACHE_DIR)",
        reason="DeepGEMM's own name of it: an operator's value would be lost.",
    ),
    Rule(
        "TVM_FFI_CACHE_DIR",
        Kind.CACHE,
        value="tvm-ffi",
        upstream="does not set it (`~/.cache/tvm-ffi`)",
        reason=_SHARED + "TVM's FFI locks each kernel.",
    ),
    Rule(
        "SGLANG_JIT_CACHE_DIR",
        Kind.CACHE,
        value="sglang-jit",
        since="0.5.18",
        upstream="reads it, `~/.cache/sglang/jit` when it is absent",
        reason=_SHARED + "SGLang locks each of its own kernels and renames.",
    ),
    Rule(
        "TORCH_EXTENSIONS_DIR",
        Kind.CACHE,
        value="torch_extensions",
        upstream="does not set it (`~/.cache/torch_extensions`)",
        reason=_SHARED + "torch locks each extension.",
    ),
    Rule(
        "SGLANG_CACHE_DIR",
        Kind.CACHE,
        value="sglang",
        since="0.5.4",
        upstream="reads it, `~/.cache/sglang` when it is absent",
        reason=_SHARED + "What else SGLang keeps, such as FlashInfer's tuning.",
    ),
    Rule(
        "SGLANG_BLOCK_NONZERO_RANK_CHILDREN",
        Kind.KEEP,
        value="0",
        upstream="reads it",
        reason="On nodes after the first, Engine would otherwise block the actor for ever. Set 1 "
        "for a multi-node `sglang.launch_server`, which needs the blocking.",
    ),
)

NAMES: tuple[str, ...] = tuple(dict.fromkeys(rule.name for rule in POLICY))
"""Names in the table's order, once each."""


def rules_for(version: str) -> tuple[Rule, ...]:
    """Return the rules that hold for one SGLang version, at most one for a variable."""
    return tuple(rule for rule in POLICY if rule.covers(version))
