"""`plan`, `diff` and `sizes`: layers of builds to come, costs of a move, shared bytes."""

from __future__ import annotations

import argparse

from images.commands.arguments import Command, Parser
from images.commands.options import (
    add_cache_location,
    add_compression,
    add_gpus,
    add_json,
    add_targets,
)
from images.commands.report.printing import print_documents, print_json
from images.commands.selection import chosen, compare_files, existing_store, matrix_of
from images.util import output


def _add_plan_options(parser: Parser) -> None:
    add_targets(parser)
    add_gpus(parser)
    add_compression(parser, "of the layers that a build would make (default: %(default)s)")
    add_cache_location(parser)
    add_json(parser)


def plan(options: argparse.Namespace) -> int:
    """Show the layers that a build would make, and which of them the store has."""
    from images.analysis import summary
    from images.build import prepare
    from images.commands.report import analysis

    matrix, targets = chosen(options)
    here = existing_store(options)
    shared = prepare.Shared(here)
    found = [summary.of_target(matrix, one, here, options.compression, shared) for one in targets]
    if options.json:
        documents = [analysis.plan_document(item) for item in found]
        print_documents(documents, "targets")
    else:
        output.result("\n\n".join(analysis.plan_text(item) for item in found))
    compare_files(matrix, targets, options.cache)
    return 0


PLAN = Command("plan", plan, _add_plan_options)


def _add_diff_options(parser: Parser) -> None:
    what = "a target's id, or the digest of an image in the store, or the beginning of one"
    parser.add_argument("old", metavar="FROM", help=what)
    parser.add_argument("new", metavar="TO", help="the image to move to, named likewise")
    add_compression(parser, "of layers that are not built yet (default: %(default)s)")
    add_json(parser)


def diff(options: argparse.Namespace) -> int:
    """Show what moving from one image to another costs: packages, and bytes to pull."""
    from images.analysis import compare, summary
    from images.commands.report import analysis

    matrix, here = matrix_of(options), existing_store(options)
    old, new = (
        summary.find(name, matrix, here, options.compression) for name in (options.old, options.new)
    )
    found = compare.compare(old, new, here)
    if options.json:
        print_json(analysis.diff_document(found))
    else:
        output.result(analysis.diff_text(found))
    return 0


DIFF = Command("diff", diff, _add_diff_options)


def sizes(options: argparse.Namespace) -> int:
    """Show how large the images are, and how much of them they share."""
    from images.analysis import sharing
    from images.commands.report import analysis

    found = sharing.measure(matrix_of(options), existing_store(options))
    if options.json:
        print_json(analysis.sizes_document(found))
    else:
        output.result(analysis.sizes_text(found))
    return 0


SIZES = Command("sizes", sizes, add_json)
