"""``clew recover``: finish a recording whose recorder was killed."""

from __future__ import annotations

import argparse
from pathlib import Path

from clew.view.escape import shell, visible


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``recover`` to the command line."""
    parser = subparsers.add_parser("recover", help="finish a recording that was cut off", description=__doc__)
    parser.add_argument("trace", metavar="TRACE", help="what -o named")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Recover and say what is there."""
    from clew.trace.recover import recover

    trace = recover(Path(args.trace))
    events = sum(trace.recorded.values())
    lost = sum(trace.lost.values())
    print(
        f"{visible(args.trace)}: {events:,} events, {lost:,} known to be lost; clew show {shell(args.trace)}"
    )
    return 0
