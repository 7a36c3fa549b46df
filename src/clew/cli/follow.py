"""``clew follow``: run a command, record what it causes, show the path."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from clew.cli import recording_options, view_options

if TYPE_CHECKING:
    from clew.model.flow import Flow

_EPILOG = """The command's output, exit status and death by signal are its own; the path is printed after it,
on stderr.  With --json or --format, stdout is for the data alone: the command's goes to stderr.

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
    view_options.add_options(parser)
    recording_options.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Record, follow, show; the command's exit status."""
    # Following is imported before the command runs: its path is there the sooner after its end.
    from clew.cli import recording, showing
    from clew.cli.apart import apart
    from clew.flow.follow import Following
    from clew.trace.kept_frames import KeptFrames
    from clew.trace.reader import Trace

    until = showing.target(args.until)
    with recording.trace_folder(args.output) as folder:
        with _stdout_for_data(args.format != "text"):
            made = recording.make(args, folder)
        trace = Trace(folder)
        kept = KeptFrames(folder) if args.output is not None else None

        def show() -> None:
            found = Following(trace, args.strict)
            _show(found.flow(until, whole=showing.wants_all(args)), args, args.output or "")
            if kept is not None:
                found.keep(kept)

        try:
            apart(show, showing.modules(args.format))
        except BaseException:
            if kept is not None:
                kept.drop()
            raise
        if kept is not None:
            kept.put()
    return made.status


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


@contextmanager
def _stdout_for_data(wanted: bool) -> Iterator[None]:
    """While the command runs: its stdout is our stderr, so that ours holds one object and no more."""
    if not wanted:
        yield
        return
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
