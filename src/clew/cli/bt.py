"""``clew bt``: the backtrace of a held task."""

from __future__ import annotations

import argparse
import json
import sys

from clew.cli import holding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from clew.model.frame import Backtrace


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bt`` to the command line."""
    parser = subparsers.add_parser("bt", help="the backtrace of a held task", description=__doc__)
    parser.add_argument("hold", metavar="HOLD", help="such as H1")
    parser.add_argument("--json", action="store_true", help="one JSON array, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the frames, innermost first."""
    from clew.cli.apart import apart
    from clew.hold.backtrace import look_at
    from clew.hold.client import HoldClient

    with HoldClient() as client:
        looked = look_at(*client.look(args.hold))
    apart(lambda: _print(looked.backtrace(), args), ("clew.stack.session",))
    return 0


def _print(frames: Backtrace, args: argparse.Namespace) -> None:
    if args.json:
        json.dump([holding.frame_json(frame) for frame in frames], sys.stdout)
        print()
        return
    for number, frame in enumerate(frames):
        print(f"#{number:<2} {holding.place(frame)}{'  [inlined]' * frame.inlined}")
