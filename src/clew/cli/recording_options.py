"""The options of ``follow`` and ``record`` that say how to record."""

from __future__ import annotations

import argparse

from clew.engine import ENGINES


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a recording, and the command."""
    parser.add_argument("-o", "--output", metavar="TRACE", help="keep the recording in this folder")
    parser.add_argument("-p", "--pid", type=int, action="append", default=[], metavar="PID",
                        help="record this process too (repeatable)")  # fmt: skip
    parser.add_argument("--scope", choices=("tree", "system"), default="system",
                        help="the whole system (default), or the command, -p and their children")  # fmt: skip
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB",
                        help="leave out programs of this name, as in exec:GLOB, with all they start; "
                        "never the command itself (repeatable)")  # fmt: skip
    parser.add_argument("--no-stacks", action="store_true", help="take no backtraces: less cost per event")
    parser.add_argument("--queue", action="append", nargs=2, default=[], metavar=("PUT", "TAKE"),
                        help="a queue in memory, by the functions that put jobs there and take them out: "
                        "'call:push,arg=2' 'call:pop,ret' (repeatable; root)")  # fmt: skip
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="where events come from")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but results and errors")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="[--] COMMAND", help="what to run")
