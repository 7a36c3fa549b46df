"""``clew gdb-plugin``: print the line that adds clew to gdb."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``gdb-plugin`` to the command line."""
    parser = subparsers.add_parser(
        "gdb-plugin",
        help="print the line that adds clew to gdb",
        description="Print the line that adds `clew childdbg`, `clew holds`, `clew take` and"
        " `clew release` to gdb: clew gdb-plugin >> ~/.gdbinit",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from clew.debugger.gdb import plugin_line

    del args
    print(plugin_line())
    return 0
