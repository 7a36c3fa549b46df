"""``clew follow``: run a command, record what it causes, show the path."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clew.cli import recording
from clew.model.flow import Flow

_EPILOG = """The command's output, exit status and death by signal are its own; the path is printed after it, on
stderr, or on stdout with --format.

examples:
  clew follow -- virsh start vm
  clew follow -o T --until 'exec:*qemu-system-x86_64' -- virsh start vm
  clew follow --json -- make > flow.json
  clew follow -p 1234                     what a running process causes, until ^C
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``follow`` to the command line."""
    parser = subparsers.add_parser(
        "follow",
        help="run a command and show what it caused",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    from clew.cli import showing

    showing.add_options(parser)
    recording.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Record, follow, show; the command's exit status."""
    from clew.cli import showing

    until = showing.target(args)
    with recording.trace_folder(args.output) as folder:
        outcome = recording.make(args, folder)
        from clew.flow.follow import follow
        from clew.trace.reader import Trace

        flow = follow(Trace(folder), until, keep=args.output is not None)
        _show(flow, args, args.output or "")
    return recording.exit_status(outcome)


def _show(flow: Flow, args: argparse.Namespace, trace: str) -> None:
    """Data to stdout; the text for people to stderr, so that it never mixes with the command's own output."""
    from clew.cli import showing

    if args.format != "text":
        showing.show(flow, args, trace)
        return
    sys.stdout.flush()
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        showing.show(flow, args, trace)
    finally:
        sys.stdout = stdout

