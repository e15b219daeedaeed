"""`python -m roll_runtime doctor | smoke | contract`."""

import argparse
import sys
from pathlib import Path


def _contract(options: argparse.Namespace) -> int:
    from roll_runtime import contract, versions

    failed = 0
    for path in options.wheels:
        try:
            report = contract.check(path)
        except (OSError, ValueError, SyntaxError) as error:
            print(f"{path}: cannot be read: {error}")
            failed += 1
            continue
        listed = "" if versions.is_supported(report.version) else " (not in the supported table)"
        print(f"sglang {report.version}{listed}: {'passes' if report.ok else 'FAILS'}")
        for fault in report.missing:
            print(f"  missing: {fault}")
        for note in report.notes:
            print(f"  note: {note}")
        failed += not report.ok
    return 1 if failed else 0


def _doctor(options: argparse.Namespace) -> int:
    from roll_runtime import doctor

    return doctor.main(as_json=options.json)


def _smoke(options: argparse.Namespace) -> int:
    from roll_runtime import smoke
    from roll_runtime.smoke_engine import Variant

    variant = Variant(
        tp_size=options.tp_size,
        fp8=options.fp8,
        main_thread=options.main_thread,
        default_backends=options.default_backends,
        release_memory=options.release_memory,
    )
    return smoke.main(variant, timeout=options.timeout, as_json=options.json)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    main_parser = argparse.ArgumentParser(
        prog="python -m roll_runtime",
        description="Checks of SGLang inside a ROLL rollout image.",
    )
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="what is installed, and what would fail")
    doctor.add_argument("--json", action="store_true", help="machine-readable output")
    doctor.set_defaults(run=_doctor)

    smoke = commands.add_parser("smoke", help="start a tiny engine off the main thread (GPU)")
    smoke.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS")
    smoke.add_argument("--tp-size", type=int, default=1, metavar="GPUS")
    smoke.add_argument("--fp8", action="store_true", help="with bf16 weights quantised on load")
    smoke.add_argument("--main-thread", action="store_true", help="start it on the main thread")
    smoke.add_argument(
        "--default-backends",
        action="store_true",
        help="SGLang's own choice of attention and sampling, with CUDA graphs",
    )
    smoke.add_argument(
        "--release-memory",
        action="store_true",
        help="release the engine's memory and take it back, as ROLL does between rollouts",
    )
    smoke.add_argument("--json", action="store_true", help="machine-readable output")
    smoke.set_defaults(run=_smoke)

    contract = commands.add_parser("contract", help="would the patch hold for these wheels?")
    contract.add_argument("wheels", nargs="+", type=Path, metavar="WHEEL")
    contract.set_defaults(run=_contract)
    return main_parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = parser().parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
