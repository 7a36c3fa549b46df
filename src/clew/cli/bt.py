"""``clew bt``: the backtrace of a held task."""

from __future__ import annotations

import argparse
import json
import sys

from clew.cli import holding


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bt`` to the command line."""
    parser = subparsers.add_parser("bt", help="the backtrace of a held task", description=__doc__)
    parser.add_argument("hold", metavar="HOLD", help="such as H1")
    parser.add_argument("--json", action="store_true", help="one JSON array, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the frames, innermost first."""
    from clew.hold.backtrace import backtrace
    from clew.hold.client import HoldClient

    with HoldClient() as client:
        frames = backtrace(*client.look(args.hold))
    if args.json:
        json.dump([holding.frame_json(frame) for frame in frames], sys.stdout)
        print()
        return 0
    for number, frame in enumerate(frames):
        print(f"#{number:<2} {holding.place(frame)}{'  [inlined]' * frame.inlined}")
    return 0
