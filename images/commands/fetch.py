"""`fetch`: download what builds need, so that they need no network."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from images.commands.arguments import Command, Parser
from images.commands.options import (
    add_cache,
    add_jobs,
    add_json,
    add_mirror,
    add_plain_http,
    add_targets,
)
from images.commands.report.printing import print_documents, print_summary
from images.commands.selection import chosen, compare_files, copy_wheels, inputs_of
from images.repository import ROOT
from images.util import output, user_cache
from images.util.progress import Progress


def _add_fetch_options(parser: Parser) -> None:
    add_targets(parser)
    add_cache(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--check", action="store_true", help="fetch nothing; fail if a file is missing"
    )
    how.add_argument(
        "--list",
        action="store_true",
        dest="paths_only",
        help="print the paths of the files in the cache, for tar -T - or rsync --files-from=-",
    )
    add_jobs(parser, "files to hash at a time")
    add_plain_http(parser)
    add_mirror(parser)
    add_json(parser)


def fetch(options: argparse.Namespace) -> int:
    """Fetch all files that builds need into the download cache; they then need no network."""
    from images.build import prefetch, prepare
    from images.commands.report import transfers
    from images.inputs.build_options import FetchOptions

    looking = options.check or options.paths_only
    matrix, targets = chosen(options)
    if not looking:
        copy_wheels(targets, options)
    fetch_options = FetchOptions(**fetch_values(options, offline=looking))
    wanted = {
        one.target.id: prepare.ready(
            one, fetch_options, Progress(), fetch=not looking, verify=not looking
        ).needed
        for one in inputs_of(matrix, targets)
    }
    if options.paths_only:
        files = dict.fromkeys(file for needs in wanted.values() for file in needs.artifacts)
        output.result("\n".join(f"{file.sha256}/{file.filename}" for file in files))
        return 0
    outcomes = {}
    for target, needs in wanted.items():
        if options.check:
            outcomes[target] = prefetch.check(needs, fetch_options, Progress())
        else:
            outcomes[target] = prefetch.fetch(needs, fetch_options, Progress())
    summary = f"{transfers.fetch_summary(outcomes)}\n{options.cache}"
    print_summary(options, summary)
    if options.json:
        documents = [transfers.fetch_document(*item) for item in outcomes.items()]
        print_documents(documents, "targets")
    if error := prefetch.failure(outcomes, fetch_command(options)):
        raise error
    compare_files(matrix, targets, options.cache)
    return 0


FETCH = Command("fetch", fetch, _add_fetch_options)


def fetch_values(options: argparse.Namespace, *, offline: bool) -> dict[str, Any]:
    """Return the fields of `FetchOptions`, which builds have as well.

    Args:
        options: of the command line.
        offline: whether the network is not used.
    """
    return {
        "cache": options.cache,
        "matrix": options.matrix.absolute(),
        "jobs": options.jobs,
        "mirror": options.debian_mirror,
        "plain_http": options.plain_http,
        "offline": fetch_command(options) if offline else "",
    }


def fetch_command(options: argparse.Namespace) -> str:
    """Return the command that fetches what the builds of these options need."""
    command = ["python", "build.py", "fetch"]
    command += ["--all"] if options.all else []
    for target in dict.fromkeys(options.target):
        command += ["--target", target]
    if options.cache != user_cache.directory():
        command += ["--cache", str(options.cache)]
    command += ["--plain-http"] if options.plain_http else []
    if options.matrix != ROOT / "matrix.yaml":
        command += ["--matrix", str(options.matrix)]
    return shlex.join(command)
