"""``clew core``: a core file of one end of a recorded hop, which gdb, LLDB and drgn open.

It holds the registers, the saved part of the stack, and where which file was mapped: enough for a backtrace
and for what is in its frames.  Heap and globals were not recorded.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from clew.errors import TraceError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``core`` to the command line."""
    parser = subparsers.add_parser(
        "core", help="a core file of one end of a recorded hop", description=__doc__
    )
    parser.add_argument("hop", metavar="TRACE#N", help="such as T#12")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the file to write")
    parser.add_argument("--to", action="store_true", help="where the hop arrived; without it, where it left")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it, and say how to open it."""
    from clew.cli.hop_argument import core_of
    from clew.view.escape import command, visible

    core = core_of(args.hop, args.to)
    _write(Path(args.output), core.data)
    for line in core.missing:
        print(f"clew: {visible(line)} Its frames may have no names.", file=sys.stderr)
    print(f"written; to open it: {command(['gdb', '-q', core.program, args.output])}")
    return 0


def _write(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read: it holds what was in the program's memory."""
    new = path.with_name(f"{path.name}.new")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as out:
                out.write(data)
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TraceError(f"Cannot write {path}: {error.strerror}.") from error
