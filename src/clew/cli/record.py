"""``clew record``: record what a command causes, and only that."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clew.cli import recording_options


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``record`` to the command line."""
    parser = subparsers.add_parser("record", help="record only", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("-v", "--verbose", action="store_true", help="with the kernel's words if it refuses")
    recording_options.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Record; the command's exit status."""
    from clew.cli import recording
    from clew.view.escape import shell, visible

    folder = args.output or "clew.trace"
    made = recording.make(args, Path(folder))
    if not args.quiet:
        lost = sum(made.outcome.lost.values())
        said = f"{lost:,} records lost" if lost else "none lost"
        print(f"clew: recorded to {visible(folder)}, {said}; clew show {shell(folder)}", file=sys.stderr)
    return made.status
