"""The rules for values in matrix.yaml: each takes text and returns its fault as a message, or None.

The common forms of versions, requirements and specifiers are matched here, since `packaging`'s
parsers take longer to import than the whole file takes to load; any other form goes to `packaging`,
which decides. (roll_runtime compares versions by itself as well: it may import nothing else.)
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from functools import cache

from images.formats import wheel_licence
from images.inputs import compilers
from images.inputs.matrix import gpus
from images.inputs.matrix.conflict_rules import THE_IMAGE
from images.util import suggest, units

# A Debian suite determines the minor version of Python and, by its glibc, the wheels that fit.
SUITES = {"bookworm": ("3.11", "x86_64-manylinux_2_36")}

KERNELS = (
    "attention-bf16-128",
    "norm",
    "sampling",
    "sglang-dense",
    "sglang-future-tokens",
    "sglang-recorded",
    "triton",
)
"""The modules of kernels that can be compiled (`images/content/kernels`)."""

OF_SGLANG = "sglang-"
"""How the names of SGLang's own kernels begin."""

RECORDED = f"{OF_SGLANG}recorded"
"""Those of SGLang's own kernels that a recording lists."""

TRITON = "triton"
"""The kernels in Triton, SGLang's and inductor's; all other modules are FlashInfer's."""

_NUMBER = r"(?:0|[1-9][0-9]{0,9})"
_RELEASE = rf"{_NUMBER}(?:\.{_NUMBER})*"
_VERSION = rf"{_RELEASE}(?:(?:a|b|rc){_NUMBER})?(?:\.post{_NUMBER})?(?:\.dev{_NUMBER})?"
_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]*[a-zA-Z0-9])?"
_PLAIN_VERSION = re.compile(_VERSION)
_PLAIN_CLAUSE = re.compile(rf"(>=|<)({_RELEASE})")
_PLAIN_REQUIREMENT = re.compile(
    rf"{_NAME}(?:\[{_NAME}(?:, ?{_NAME})*\])?(?:(?:==|>=|<=|!=|<|>){_VERSION})?"
)
_EXACT = re.compile(rf"{_NAME}=={_VERSION}")
_MAJOR_MINOR = re.compile(rf"{_NUMBER}\.{_NUMBER}")
_BEFORE_FINAL = re.compile(rf"{_RELEASE}(?:(?:a|b|rc).*|\.dev.*)")
_LONGEST = 200  # characters of a version, specifier or requirement

_OTHER_PLATFORMS = re.compile(r"(?<![a-z])(?:(rocm|hip|amd|amdgpu)|npu|ascend|cann)(?![a-z])")

_CREDENTIAL_WORD = re.compile(
    r"(?:^|_)(?:TOKEN|KEY|AUTH|PASS|PWD|COOKIE|NETRC)(?:_|$)"
    r"|PASSWORD|PASSWD|SECRET|CREDENTIAL|APIKEY"
)
_CREDENTIAL_VALUE = re.compile(
    r"://[^/\s@]*@|\b(?:hf_|ghp_|gho_|github_pat_|glpat-|sk-|xox[abp]-|AKIA)[A-Za-z0-9_-]{12,}"
)
_INDEX_SETTING = re.compile(r"(?:PIP|UV)_.*(?:INDEX|FIND_LINKS|CONFIG|HOST|CERT).*|NETRC")
_ALLOCATOR = (
    "torch-memory-saver, which ROLL turns on, refuses expandable segments, and the engine's own "
    "settings decide the rest"
)
_FORBIDDEN_ENV = {
    "PYTORCH_CUDA_ALLOC_CONF": _ALLOCATOR,
    "PYTORCH_ALLOC_CONF": f"torch 2.9 and later read it too; {_ALLOCATOR}",
    gpus.ENV: "it follows from `gpus`",
}


def other_platform(text: str) -> str | None:
    """Refuse text that names ROCm or Ascend NPU."""
    found = _OTHER_PLATFORMS.search(text.lower().replace("_", " "))
    if not found:
        return None
    name = "ROCm (AMD)" if found[1] else "Ascend NPU"
    return f"{text!r}: {name} is not supported: these images are for NVIDIA CUDA only"


def platform(text: str) -> str | None:
    """Check the `platform`."""
    if text == "nvidia-cuda":
        return None
    return other_platform(text) or f"{text!r} is not a platform: the only one is nvidia-cuda"


def version(text: str) -> str | None:
    """Check a version of torch or SGLang."""
    if _PLAIN_VERSION.fullmatch(text) and len(text) <= _LONGEST:
        return None
    if refusal := other_platform(text):
        return refusal
    from packaging.version import Version

    try:
        parsed = Version(text[:_LONGEST])
    except ValueError:
        return f"{text!r} is not a version"
    if parsed.local or parsed.epoch:
        return f"{text!r}: only builds of the index itself, without `+` or `!`"
    return f"{text!r} is not in its normal form: write {parsed}"


def cuda(text: str) -> str | None:
    """Check a CUDA version."""
    if _MAJOR_MINOR.fullmatch(text):
        return None
    return other_platform(text) or f"{text!r} is not a CUDA version: write MAJOR.MINOR, as in 12.8"


def compiler(major: str, text: str) -> str | None:
    """Check the version of the compiler for a CUDA major version."""
    if wrong := cuda(text):
        return wrong
    known = compilers.versions(major)
    if text in known:
        return None
    hint = suggest.nearest(text, known)
    return f"{text!r} is not a compiler for CUDA {major}: there is {', '.join(known)}{hint}"


def requirement(text: str) -> str | None:
    """Check a requirement."""
    if len(text) > _LONGEST:
        return f"{text[:40]!r}… is not a requirement: longer than {_LONGEST} characters"
    if refusal := other_platform(text):
        return refusal
    if _PLAIN_REQUIREMENT.fullmatch(text):
        return None
    from packaging.requirements import Requirement

    try:
        parsed = Requirement(text)
    except (ValueError, RecursionError) as error:
        return f"{text!r} is not a requirement: {str(error).splitlines()[0]}"
    return f"{text!r} names a URL: locks contain no URL" if parsed.url else None


def exact(text: str) -> str | None:
    """Check a build requirement, which must be `name==version`."""
    if _EXACT.fullmatch(text) and len(text) <= _LONGEST:
        return None
    return f"{text!r} must be exact, as in setuptools==80.9.0: it goes into the bytes of the wheel"


def package_name(text: str) -> str | None:
    """Check a package's name, which must be normalised (PEP 503)."""
    normal = re.sub(r"[-_.]+", "-", text).lower()
    if re.fullmatch(_NAME, text) and normal == text:
        return None
    hint = f": write {normal}" if re.fullmatch(_NAME, normal) else ""
    return f"{text!r} is not a package name in its normal form{hint}"


def winner(text: str) -> str | None:
    """Check the winner of a conflict: a package, or the image itself."""
    return None if text == THE_IMAGE else package_name(text)


def image_path(text: str) -> str | None:
    """Check an absolute path of the image, in which `*` stands for any characters."""
    parts = text.split("/")
    if parts[0] == "" and not {"", ".", ".."} & {*parts[1:]}:
        return None
    return f"{text!r} is not an absolute path in the image, as in /opt/venv/bin/tool"


def licence(text: str) -> str | None:
    """Check the licence of a distribution whose files are changed."""
    if text in wheel_licence.PERMITTING:
        return None
    known = list(wheel_licence.PERMITTING)
    hint = suggest.nearest(text, known)
    return f"{text!r} is not a licence that permits changes: {', '.join(known)}{hint}"


def wheel_file(text: str) -> str | None:
    """Check the file name of a custom wheel (PEP 427), which must fit the image."""
    from packaging.utils import InvalidWheelFilename

    from images import image_paths
    from images.inputs import wheel_tags

    try:
        fits = wheel_tags.fits(text)
    except InvalidWheelFilename as error:
        return f"{text!r} is not the file name of a wheel: {str(error).splitlines()[0]}"
    if fits:
        return None
    return f"{text!r} is not for CPython {image_paths.PYTHON} on {wheel_tags.PLATFORM}"


def sha256(text: str) -> str | None:
    """Check a SHA-256."""
    if re.fullmatch("[0-9a-f]{64}", text):
        return None
    return f"{text[:80]!r} is not a SHA-256: 64 digits of 0-9a-f, as sha256sum prints them"


def kernel(text: str) -> str | None:
    """Check the name of a module of kernels."""
    if text in KERNELS:
        return None
    hint = suggest.nearest(text, KERNELS)
    return f"{text!r} is not a module of kernels: there is {', '.join(KERNELS)}{hint}"


def is_of_sglang(module: str) -> bool:
    """Return whether a module of kernels is SGLang's own, compiled by nvcc."""
    return module.startswith(OF_SGLANG)


def is_of_flashinfer(module: str) -> bool:
    """Return whether a module of kernels is FlashInfer's."""
    return not is_of_sglang(module) and module != TRITON


def flag(text: str) -> str | None:
    """Check a Boolean."""
    return None if text in ("true", "false") else f"{text!r} is neither true nor false"


def flavour(text: str) -> str | None:
    """Check the name of a flavour, which ends the ids of its targets."""
    if gpus.named(f"-{text}")[1]:
        return f"{text!r} is not a flavour's name: in an id it names GPUs"
    if re.fullmatch("[a-z][a-z0-9]{0,19}", text):
        return None
    return f"{text!r} is not a flavour's name: lower-case letters and digits, as in roll"


def debian_package(text: str) -> str | None:
    """Check the name of a Debian package (Debian Policy, section 5.6.7)."""
    if re.fullmatch("[a-z0-9][a-z0-9+.-]+", text):
        return None
    return f"{text!r} is not the name of a Debian package"


def specifier(text: str) -> str | None:
    """Check a version specifier."""
    if len(text) <= _LONGEST and all(map(_PLAIN_CLAUSE.fullmatch, _clauses(text))):
        return None
    from packaging.specifiers import SpecifierSet

    try:
        SpecifierSet(text[: _LONGEST + 1])
    except ValueError:
        return f"{text!r} is not a version specifier, such as '>=0.5.2' or '>=0.5,<0.6'"
    if not text.strip() or len(text) > _LONGEST:
        return f"{text[:40]!r} is not a version specifier: empty or too long"
    return None


@cache
def matches(spec: str, candidate: str) -> bool:
    """Return whether a version is in a specifier, pre-releases included; both must be valid."""
    clauses = [_PLAIN_CLAUSE.fullmatch(clause) for clause in _clauses(spec)]
    if not all(clauses):
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(spec).contains(candidate, prereleases=True)
    return all(_in_clause(clause[1], clause[2], candidate) for clause in clauses if clause)


def _in_clause(operator: str, bound: str, candidate: str) -> bool:
    """Compare by `>=` or `<` with a bound that is a final release, as PEP 440 defines it."""
    this, limit = ([int(part) for part in release(text)] for text in (candidate, bound))
    width = max(len(this), len(limit))
    this += [0] * (width - len(this))
    limit += [0] * (width - len(limit))
    if operator == "<":
        return this < limit  # a pre-release of the bound is not below it
    return this > limit or (this == limit and not _BEFORE_FINAL.fullmatch(candidate))


def target_ids(torch: str, sglang: str) -> tuple[str, ...]:
    """Return the ids that a row may have: the digits of both releases, and those with its suffix.

    The second, as in `torch260-sglang046post1`, is for a further version of the same release.
    """
    short = f"torch{''.join(release(torch))}-sglang{''.join(release(sglang))}"
    suffix = re.sub(rf"^{_RELEASE}\.?", "", sglang).replace(".", "")
    return (short, f"{short}{suffix}") if suffix else (short,)


def cut_off(text: str) -> tuple[str | None, str]:
    """Check a date; return its fault, and the date as RFC 3339 in UTC."""
    day = re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
    full = re.fullmatch(r"([0-9-]{10}T[0-9]{2}:[0-9]{2}:[0-9]{2})(Z|[+-][0-9]{2}:[0-9]{2})", text)
    try:
        if day:
            moment = datetime.fromisoformat(f"{text}T00:00:00+00:00")
        elif full:
            moment = datetime.fromisoformat(full[1] + full[2].replace("Z", "+00:00"))
        else:
            raise ValueError
        utc = moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return f"{text!r} is not a date: write 2025-09-16 or 2025-09-16T12:00:00Z", ""
    return None, utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def budget(text: str) -> tuple[str | None, int]:
    """Check the size of a budget, which needs a unit; return its fault, and the bytes."""
    unit = text.lstrip("0123456789. ")
    if text != unit and unit and unit.upper() not in units.UNITS:
        near = suggest.nearest(unit, ("kB", "MB", "GB", "KiB", "MiB", "GiB"))
        return f"{text!r}: {unit!r} is not a unit of bytes{near}", 0
    try:
        if unit:
            return None, units.parse(text)
    except ValueError:
        pass
    return f"{text!r} is not a size: write it with its unit, as in 4.3GB", 0


def env(name: str, value: str) -> str | None:
    """Check an environment default."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return f"{name!r} is not the name of an environment variable"
    upper = name.upper()
    if upper in _FORBIDDEN_ENV:
        return f"{name} must not be set in an image: {_FORBIDDEN_ENV[upper]}"
    if upper.startswith("NCCL_"):
        return f"{name} must not be set in an image: the engine's settings decide it at run time"
    if upper.endswith("_PROXY"):
        return f"{name} must not be set in an image: a proxy belongs to the place where it runs"
    if _INDEX_SETTING.fullmatch(upper):
        return f"{name} must not be set in an image: an index belongs to the place where it runs"
    if _CREDENTIAL_WORD.search(upper):
        return f"{name} looks like a credential: pass it at run time, never in an image"
    if _CREDENTIAL_VALUE.search(value):
        return f"the value of {name} looks like a credential: never in an image"
    if any(ord(char) < 32 for char in value):
        return f"the value of {name} has a line break or a control character"
    return None


def _clauses(text: str) -> list[str]:
    return [clause.strip() for clause in text.split(",")]


def release(text: str) -> list[str]:
    """Return the numbers of a version's release, at least three: those of 2.8 are 2, 8, 0."""
    found = re.match(_RELEASE, text)
    parts = found[0].split(".") if found else []
    return parts + ["0"] * (3 - len(parts))
