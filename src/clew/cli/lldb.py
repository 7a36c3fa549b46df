"""``clew lldb``: open LLDB on a held task, on its thread, at its place."""

from __future__ import annotations

import argparse

from clew.cli.hold import split_at_dashes


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``lldb`` to the command line."""
    parser = subparsers.add_parser(
        "lldb",
        help="open lldb on a held task",
        description="Open LLDB on a held task, on its thread, at its place. It stays held when LLDB quits.",
        epilog="example: clew lldb H1 -- --batch -o bt",
    )
    parser.add_argument("hold", metavar="HOLD", help="such as H1")
    parser.usage = "clew lldb HOLD [-- LLDB ARGS…]"
    parser.set_defaults(run=run, command_line=())
    split_at_dashes(parser)


def run(args: argparse.Namespace) -> int:
    """Run LLDB; its own exit status."""
    from clew.cli.debugging import run_debugger
    from clew.debugger.gdb import lldb_command

    return run_debugger(lldb_command, args.hold, args.command_line)
