"""``clew show``: show a recording, with no privileges and no engine."""

from __future__ import annotations

import argparse
from pathlib import Path

from clew.cli import showing

_EPILOG = """examples:
  clew show T
  clew show T --until 'exec:*qemu-system-x86_64' --format svg > start.svg
  clew show T --json | jq '.reached'
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``show`` to the command line."""
    parser = subparsers.add_parser(
        "show",
        help="show a recording",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", metavar="TRACE", help="what -o named")
    parser.add_argument("-q", "--quiet", action="store_true", help="the path and nothing else")
    showing.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Follow the trace and show the flow."""
    from clew.flow.follow import follow
    from clew.trace.reader import Trace

    trace = Trace(Path(args.trace))
    if args.until is None:
        args.until = trace.meta.get("until")
    flow = follow(trace, showing.target(args), whole=showing.wants_all(args))
    showing.show(flow, args, args.trace)
    return 0
