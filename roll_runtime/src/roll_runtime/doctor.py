"""Checks of what is installed, and of what would fail when the engine starts.

Every check reports what was found, and where something is wrong what to do. Nothing is imported
from SGLang, and torch only where there is a GPU, in a child process: without one the report takes
in a second.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

from roll_runtime.doctor_gpu import check_compilers, check_gpu, check_program
from roll_runtime.doctor_host import check_environment, check_host, check_user
from roll_runtime.doctor_kernels import check_caches, check_downloads, check_kernels
from roll_runtime.doctor_roll import check_network, check_ray, check_roll
from roll_runtime.doctor_software import (
    check_packages,
    check_python,
    check_runtime,
    check_sglang,
    check_torch,
)
from roll_runtime.findings import Check, Status

CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    check_python,
    check_runtime,
    check_sglang,
    check_packages,
    check_torch,
    check_gpu,
    check_program,
    check_compilers,
    check_kernels,
    check_downloads,
    check_caches,
    check_environment,
    check_user,
    check_host,
    check_network,
    check_ray,
    check_roll,
)


def diagnosis() -> list[Check]:
    """Run every check; one that breaks is reported as a failure, and the others go on."""
    found: list[Check] = []
    for check in CHECKS:
        try:
            found.extend(check())
        except Exception as error:
            found.append(
                Check(
                    check.__name__.removeprefix("check_"),
                    Status.FAIL,
                    f"the check itself broke: {type(error).__name__}: {error}",
                    "Report this.",
                )
            )
    return found


def main(as_json: bool) -> int:
    """Print the report.

    Args:
        as_json: as `{"ok": …, "checks": […]}` instead of lines.

    Returns:
        1 when something would fail, else 0.
    """
    checks = diagnosis()
    failed = [check for check in checks if check.status is Status.FAIL]
    if as_json:
        print(json.dumps({"ok": not failed, "checks": [asdict(item) for item in checks]}, indent=2))
    else:
        for item in checks:
            print(f"{item.status.value:4}  {item.name}: {item.found}")
            if item.remedy:
                print(f"      -> {item.remedy}")
        print(f"{len(failed)} of {len(checks)} checks failed" if failed else "all is well")
    return 1 if failed else 0
