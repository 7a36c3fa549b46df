"""``clew gdb``: open gdb on a held task, on its thread, at its place."""

from __future__ import annotations

import argparse

from clew.cli.hold import split_at_dashes


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``gdb`` to the command line."""
    parser = subparsers.add_parser(
        "gdb",
        help="open gdb on a held task",
        description="Open gdb on a held task, on its thread, at its place. When gdb quits it asks whether the"
        " task is let go or kept; without a terminal it is kept.",
        epilog="example: clew gdb H1 -- -batch -ex bt",
    )
    parser.add_argument("hold", metavar="HOLD", help="such as H1")
    parser.usage = "clew gdb HOLD [-- GDB ARGS…]"
    parser.set_defaults(run=run, command_line=())
    split_at_dashes(parser)


def run(args: argparse.Namespace) -> int:
    """Run gdb; its own exit status."""
    from clew.cli.debugging import run_debugger
    from clew.debugger.gdb import gdb_command

    return run_debugger(gdb_command, args.hold, args.command_line)
