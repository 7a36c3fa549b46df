"""``clew gdb``: open gdb on a held task, or on the core of a recorded hop."""

from __future__ import annotations

import argparse

from clew.cli.hold import split_at_dashes


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``gdb`` to the command line."""
    parser = subparsers.add_parser(
        "gdb",
        help="open gdb on a held task, or on a recorded hop",
        description="Open gdb on a held task, on its thread, at its place. When gdb quits it asks whether the"
        " task is let go or kept; without a terminal it is kept. Of a hop of a recording (T#12) it opens what"
        " was saved of the task: its registers and its stack.",
        epilog="examples: clew gdb H1 -- -batch -ex bt; clew gdb T#12",
    )
    parser.add_argument("hold", metavar="HOLD", help="such as H1, or a hop such as T#12")
    parser.add_argument("--to", action="store_true", help="of a hop: where it arrived, not where it left")
    parser.usage = "clew gdb HOLD|TRACE#N [--to] [-- GDB ARGS…]"
    parser.set_defaults(run=run, command_line=())
    split_at_dashes(parser)


def run(args: argparse.Namespace) -> int:
    """Run gdb; its own exit status."""
    from clew.cli.debugging import run_debugger, run_on_core
    from clew.cli.hop_argument import is_hop
    from clew.debugger.gdb import gdb_command, gdb_core_command

    if is_hop(args.hold):
        return run_on_core(gdb_core_command, args.hold, args.to, args.command_line)
    return run_debugger(gdb_command, args.hold, args.command_line)
